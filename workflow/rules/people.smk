# Before anybody is trained on: nobody is given twice, by name or by genotype. What is found out stays in private folders.


rule compare_people:
    input:
        alignments=alignments_to_compare,
    output:
        compared="results/{study}/{site}/people_compared.txt",
    log:
        "logs/compare_people/{study}.{site}.log",
    benchmark:
        "benchmarks/compare_people/{study}.{site}.tsv"
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        configuration=CONFIG.model_dump_json(
            exclude={
                "sweep",
                "shard_size",
                "shard_jobs",
                "device",
                "public_thinning",
                "local",
            }
        ),
        alignments=alignments_made_here,
        version=FEDCALL_VERSION,
    message:
        "Comparing the people of {wildcards.site} by their reads"
    shell:
        "fedcall compare-people --configuration {params.configuration:q} --site {wildcards.site} {params.alignments}"
        " --threads {threads} --output {output.compared} > {log} 2>&1"
