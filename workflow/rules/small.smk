# Patients with small regions: what is several jobs of a larger patient is one here, and starts one process.


rule prepare_training_patient:
    input:
        alignments=alignments_of,
        alignments_index=alignments_index_of,
        truth=truth_of,
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        labels="results/{study}/{site}/labels/{patient}.vcf.gz",
        labels_index=f"results/{{study}}/{{site}}/labels/{{patient}}.vcf.gz{CALLS_INDEX}",
        examples="results/{study}/{site}/examples/{patient}.safetensors",
    log:
        "logs/prepare_training_patient/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/prepare_training_patient/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=only(PREPARED_TO_TRAIN),
    group:
        "pileup"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        trained_on=lambda wildcards, input: training_regions(input.regions),
        duplicates=duplicates_of,
        sample=sample_of,
        version=FEDCALL_VERSION,
    shell:
        "fedcall normalise-labels --truth {input.truth:q} --reference {input.reference:q} {params.regions}"
        " --sample={params.sample:q} --output {output.labels}"
        " --then normalise-alignments --alignments {input.alignments:q} --reference {input.reference:q}"
        " {params.regions} {params.duplicates} --output {output.alignments} --threads {threads}"
        " --then pileup --alignments {output.alignments} --reference {input.reference:q} {params.trained_on}"
        " --truth {output.labels} --sample={params.sample:q} --keep-percent 100 --output {output.examples} --threads {threads}"
        " > {log} 2>&1"


rule prepare_patient:
    input:
        alignments=alignments_of,
        alignments_index=alignments_index_of,
        truth=truth_of,
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        labels="results/{study}/{site}/labels/{patient}.vcf.gz",
        labels_index=f"results/{{study}}/{{site}}/labels/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/prepare_patient/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/prepare_patient/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=only(PREPARED),
    group:
        "labels"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        duplicates=duplicates_of,
        sample=sample_of,
        version=FEDCALL_VERSION,
    shell:
        "fedcall normalise-labels --truth {input.truth:q} --reference {input.reference:q} {params.regions}"
        " --sample={params.sample:q} --output {output.labels}"
        " --then normalise-alignments --alignments {input.alignments:q} --reference {input.reference:q}"
        " {params.regions} {params.duplicates} --output {output.alignments} --threads {threads} > {log} 2>&1"
