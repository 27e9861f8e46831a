# Reads and truth of a patient, checked against the reference and brought into one form.


rule align_reads:
    input:
        reads=reads_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        alignments=temp("results/{study}/{site}/aligned/{patient}.bam"),
    log:
        "logs/align_reads/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/align_reads/{study}.{site}.{patient}.tsv"
    conda:
        "../envs/align.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        reads=lambda wildcards, input: " ".join(
            option(f"--reads{mate}", path) for mate, path in enumerate(input.reads, 1)
        ),
        version=FEDCALL_VERSION,
    message:
        "Aligning the reads of {wildcards.patient}"
    shell:
        "fedcall align {params.reads} --reference {input.reference:q} --sample {wildcards.patient}"
        " --output {output.alignments} --threads {threads} > {log} 2>&1"


rule confident_regions:
    input:
        gvcf=gvcf_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        regions="results/{study}/{site}/regions/{patient}.bed",
    log:
        "logs/confident_regions/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/confident_regions/{study}.{site}.{patient}.tsv"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        sample=sample_of,
        version=FEDCALL_VERSION,
    shell:
        "fedcall confident-regions --gvcf {input.gvcf:q} --reference {input.reference:q} --sample={params.sample:q}"
        " --output {output.regions} > {log} 2>&1"


rule normalise_alignments:
    input:
        alignments=alignments_of,
        alignments_index=alignments_index_of,
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
    log:
        "logs/normalise_alignments/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/normalise_alignments/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=all_but(PREPARED, PREPARED_TO_TRAIN),
    group:
        "alignments"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        duplicates=duplicates_of,
        version=FEDCALL_VERSION,
    shell:
        "fedcall normalise-alignments --alignments {input.alignments:q} --reference {input.reference:q}"
        " {params.regions} {params.duplicates} --output {output.alignments} --threads {threads} > {log} 2>&1"


rule normalise_labels:
    input:
        truth=truth_of,
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
    output:
        labels="results/{study}/{site}/labels/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/labels/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/normalise_labels/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/normalise_labels/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=all_but(PREPARED, PREPARED_TO_TRAIN),
    group:
        "labels"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        sample=sample_of,
        version=FEDCALL_VERSION,
    shell:
        "fedcall normalise-labels --truth {input.truth:q} --reference {input.reference:q} {params.regions}"
        " --sample={params.sample:q} --output {output.labels} > {log} 2>&1"
