# From reads to candidates and their examples: one file per patient, named after the patient. Regions beyond
# `shard_size` are worked on in shards (shards.smk).


rule extract_pileup:
    input:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
        labels=labels_of,
        labels_index=labels_index_of,
        recalibration=recalibration_of,
    output:
        examples="results/{study}/{site}/examples/{patient}.safetensors",
    log:
        "logs/extract_pileup/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/extract_pileup/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=undivided_but(PREPARED_TO_TRAIN),
    group:
        "pileup"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        regions=lambda wildcards, input: training_regions(input.regions),
        truth=lambda wildcards, input: option("--truth", input.labels),
        sample=lambda wildcards, input: option(
            "--sample", input.labels and sample_of(wildcards)
        ),
        recalibration=recalibration_option,
        keep=100,
        shard="",
        version=FEDCALL_VERSION,
    shell:
        "fedcall pileup --alignments {input.alignments} --reference {input.reference:q} {params.regions}"
        " {params.truth} {params.sample} --keep-percent {params.keep} --output {output.examples} --threads {threads}"
        " {params.recalibration} {params.shard} > {log} 2>&1"


use rule extract_pileup as extract_thinned_pileup with:
    output:
        examples="results/{study}/{site}/examples/thinned-{percent}/{patient}.safetensors",
    log:
        "logs/extract_thinned_pileup/{study}.{site}.{percent}.{patient}.log",
    benchmark:
        "benchmarks/extract_thinned_pileup/{study}.{site}.{percent}.{patient}.tsv"
    wildcard_constraints:
        patient=NAME,
    params:
        regions=lambda wildcards, input: training_regions(input.regions),
        truth=lambda wildcards, input: option("--truth", input.labels),
        sample=lambda wildcards, input: option(
            "--sample", input.labels and sample_of(wildcards)
        ),
        recalibration=recalibration_option,
        keep=lambda wildcards: wildcards.percent,
        shard="",
        version=FEDCALL_VERSION,
