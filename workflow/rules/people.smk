# Before anybody is trained on: nobody is given twice, by name or by genotype. What is found out stays in private folders.


rule compare_people:
    input:
        alignments=alignments_to_compare,
    output:
        compared=at_sites_of_job("people_compared.txt"),
    log:
        f"logs/compare_people/{STUDY}.{SITE_OR_ALL}.log",
    benchmark:
        f"benchmarks/compare_people/{STUDY}.{SITE_OR_ALL}.tsv"
    conda:
        "../envs/training.yaml"
    threads: THREADS_OF_SITES
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        # A function, because '{site}' in it is for fedcall to replace.
        configuration=lambda wildcards: CONFIG.model_dump_json(
            exclude={
                "sweep",
                "shard_size",
                "shard_jobs",
                "device",
                "public_thinning",
                "local",
            }
        ),
        sites=lambda wildcards: options("--site", sites_of_job(wildcards)),
        alignments=alignments_made_here,
        output=lambda wildcards: f"{RESULTS}/{{site}}/people_compared.txt",
        version=FEDCALL_VERSION,
    message:
        f"Comparing the people of {SITE_OR_ALL_SITES} by their reads"
    shell:
        "fedcall compare-people --configuration {params.configuration:q} {params.sites} {params.alignments}"
        " --threads {threads} --output {params.output:q} > {log} 2>&1"
