# What other callers read: the reference and the regions in a form that each of them takes.


rule prepare_reference:
    input:
        reference=lambda wildcards: CALLERS_GENOMES[wildcards.genome],
        index=lambda wildcards: indexes_of_genome(wildcards.genome),
    output:
        reference="resources/callers/{genome}/genome.fa",
        index="resources/callers/{genome}/genome.fa.fai",
        dictionary="resources/callers/{genome}/genome.dict",
    log:
        "logs/prepare_reference/{genome}.log",
    benchmark:
        "benchmarks/prepare_reference/{genome}.tsv"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall callers reference --reference {input.reference:q} --output {output.reference} > {log} 2>&1"


rule prepare_regions:
    input:
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        bed="results/{study}/{site}/callers/{patient}.bed",
    log:
        "logs/prepare_regions/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/prepare_regions/{study}.{site}.{patient}.tsv"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        version=FEDCALL_VERSION,
    shell:
        "fedcall callers regions --reference {input.reference:q} {params.regions} --output {output.bed} > {log} 2>&1"
