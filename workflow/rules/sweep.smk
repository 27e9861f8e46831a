# What does privacy cost in accuracy? Asked of simulated or public people only, a job per training:
# `snakemake privacy_utility_sweep`.


rule train_utility_point:
    input:
        terms=lambda wildcards: RUN.swept[wildcards.terms],
        sheet=SHEET,
        reference=CONFIG.reference or COHORT_FOLDER / "reference.fa",
        initial="results/{study}/initial.safetensors",
        examples=examples_of_sweep,
        labels=people_of_sweep(
            f"{RESULTS}/{{site}}/labels/{{patient}}.vcf.gz", ["train", "holdout"]
        ),
        regions=regions_of_sweep,
    output:
        point="results/{study}/utility/{terms}.{epsilon}.{seed}.json",
    log:
        "logs/train_utility_point/{study}.{terms}.{epsilon}.{seed}.log",
    benchmark:
        "benchmarks/train_utility_point/{study}.{terms}.{epsilon}.{seed}.tsv"
    wildcard_constraints:
        terms=NAME,
        epsilon=r"own|inf|[0-9.]+(e[+-][0-9]+)?",
        seed="[1-9][0-9]*",
    conda:
        "../envs/experiments.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        epsilon=lambda wildcards: option(
            "--epsilon", "" if wildcards.epsilon == "own" else wildcards.epsilon
        ),
        version=FEDCALL_VERSION,
    message:
        "Training {wildcards.terms} at epsilon {wildcards.epsilon}, seed {wildcards.seed}"
    shell:
        "fedcall utility --study {input.terms:q} {params.epsilon} --seed {wildcards.seed} --samples {input.sheet:q}"
        " --reference {input.reference:q} --results results/{wildcards.study} --initial {input.initial}"
        " --output {output.point} > {log} 2>&1"


rule privacy_utility_sweep:
    input:
        points=points_of_sweep,
    output:
        html=report(
            f"{RESULTS}/utility.html",
            category="Utility against privacy",
            labels={"study": STUDY, "may leave the hospital": "yes"},
            caption="../report/utility.rst",
        ),
        json=f"{RESULTS}/utility.json",
    log:
        f"logs/privacy_utility_sweep/{STUDY}.log",
    benchmark:
        f"benchmarks/privacy_utility_sweep/{STUDY}.tsv"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        study=STUDY,
        version=FEDCALL_VERSION,
    message:
        "Drawing accuracy against epsilon"
    shell:
        "fedcall report utility --html {output.html} --json {output.json} --chosen {params.study} {input.points}"
        " > {log} 2>&1"
