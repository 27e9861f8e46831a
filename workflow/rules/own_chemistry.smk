# What stays at the hospital: constants of the likelihood fitted to its own training patients, on top of the joint model, and
# calls with them (`local: {chemistry: fitted}`). Nothing that leaves the hospital is made from either.


rule fit_chemistry:
    input:
        model="results/{study}/final.safetensors",
        examples=lambda wildcards: examples_of(wildcards.site),
    output:
        model="results/{study}/{site}/own_model.safetensors",
    log:
        "logs/fit_chemistry/{study}.{site}.log",
    benchmark:
        "benchmarks/fit_chemistry/{study}.{site}.tsv"
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        examples=lambda wildcards, input: options("--examples", input.examples),
        version=FEDCALL_VERSION,
    shell:
        "fedcall fit-chemistry --model {input.model} {params.examples} --site {wildcards.site} --output {output.model}"
        " > {log} 2>&1"


use rule call_variants as call_own_variants with:
    input:
        model="results/{study}/{site}/own_model.safetensors",
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
        haploid=haploid_of,
        panel=panel_of_this_run(),
        recalibration=recalibration_of,
    output:
        calls="results/{study}/{site}/own_calls/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/own_calls/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/call_own_variants/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_own_variants/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient="[^/]+",
