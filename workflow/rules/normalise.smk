# Reads and truth of a patient, checked against the reference and brought into one form.


rule normalise_alignments:
    input:
        alignments=alignments_of,
        reference=reference_of,
        regions=regions_of,
    output:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index="results/{study}/{site}/alignments/{patient}.bam.bai",
    log:
        "logs/normalise_alignments/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/normalise_alignments/{study}.{site}.{patient}.tsv"
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
        version=FEDCALL_VERSION,
    shell:
        "fedcall normalise-alignments --alignments {input.alignments:q} --reference {input.reference:q}"
        " {params.regions} --output {output.alignments} --threads {threads} > {log} 2>&1"


rule normalise_labels:
    input:
        truth=truth_of,
        reference=reference_of,
        regions=regions_of,
    output:
        labels="results/{study}/{site}/labels/{patient}.vcf.gz",
        index="results/{study}/{site}/labels/{patient}.vcf.gz.tbi",
    log:
        "logs/normalise_labels/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/normalise_labels/{study}.{site}.{patient}.tsv"
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
        " --sample {params.sample} --output {output.labels} > {log} 2>&1"
