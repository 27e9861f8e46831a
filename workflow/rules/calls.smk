# Genotypes of the held-out patients: by the study's model, by what it started from, and by bcftools.


rule call_variants:
    input:
        model="results/{study}/final.safetensors",
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
        haploid=haploid_of,
        panel=panel_of_this_run(),
        recalibration=recalibration_of,
    output:
        calls="results/{study}/{site}/calls/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/calls/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/call_variants/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_variants/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=UNDIVIDED,
    group:
        "calls"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        haploid=lambda wildcards, input: option("--ploidy-bed", input.haploid),
        panel=lambda wildcards, input: option("--panel", input.panel),
        recalibration=recalibration_option,
        shard="",
        version=FEDCALL_VERSION,
    shell:
        "fedcall call --model {input.model} --alignments {input.alignments} --reference {input.reference:q}"
        " {params.regions} {params.haploid} --sample {wildcards.patient} --output {output.calls} --threads {threads}"
        " {params.panel} {params.recalibration} {params.shard} > {log} 2>&1"


use rule call_variants as call_baseline with:
    input:
        model="results/{study}/{caller}.safetensors",
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
        haploid=haploid_of,
        panel=panel_of_this_run(),
        recalibration=recalibration_of,
    output:
        calls="results/{study}/{site}/baselines/{caller}/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/baselines/{{caller}}/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/call_baseline/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/call_baseline/{study}.{site}.{caller}.{patient}.tsv"
    wildcard_constraints:
        patient=UNDIVIDED,
        caller="likelihood|initial",


rule call_classical:
    input:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        calls="results/{study}/{site}/baselines/bcftools/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/baselines/bcftools/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/call_classical/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_classical/{study}.{site}.{patient}.tsv"
    group:
        "calls"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        version=FEDCALL_VERSION,
    shell:
        "fedcall call-classical --alignments {input.alignments} --reference {input.reference:q} {params.regions}"
        " --sample {wildcards.patient} --output {output.calls} > {log} 2>&1"
