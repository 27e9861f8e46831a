# What stays at the hospital: a table for each patient, made from that patient's reads alone (`local` in the configuration).


rule recalibrate_qualities:
    input:
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        reference=reference_of,
        reference_index=reference_index_of,
        regions=regions_of,
        panel=panel_of_this_run(),
    output:
        table="results/{study}/{site}/base_qualities/{patient}.json",
    log:
        "logs/recalibrate_qualities/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/recalibrate_qualities/{study}.{site}.{patient}.tsv"
    group:
        "recalibration"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        panel=lambda wildcards, input: option("--panel", input.panel),
        version=FEDCALL_VERSION,
    shell:
        "fedcall recalibrate --alignments {input.alignments} --reference {input.reference:q} {params.regions}"
        " {params.panel} --output {output.table} > {log} 2>&1"
