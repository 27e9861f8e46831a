# The models that need no private data: the likelihood caller, and the first global model.


rule write_likelihood_model:
    input:
        terms=CONFIG.study,
    output:
        model="results/{study}/likelihood.safetensors",
    log:
        "logs/write_likelihood_model/{study}.log",
    benchmark:
        "benchmarks/write_likelihood_model/{study}.tsv"
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    shell:
        "fedcall train-public --terms {input.terms:q} --output {output.model} > {log} 2>&1"


if RUN.is_rehearsal:

    rule train_public:
        input:
            terms=CONFIG.study,
            examples=examples_of(PUBLIC),
        output:
            model="results/{study}/initial.safetensors",
        log:
            "logs/train_public/{study}.log",
        benchmark:
            "benchmarks/train_public/{study}.tsv"
        wildcard_constraints:
            study=unless_begun("initial.safetensors"),
        conda:
            "../envs/training.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 120 * attempt,
        params:
            ledgers=ledgers_of_all_sites(),
            study=STUDY_DIGEST,
            version=FEDCALL_VERSION,
        message:
            "Training the first global model of study {wildcards.study} on public people"
        shell:
            "fedcall train-public --terms {input.terms:q} --output {output.model} {params.ledgers} {input.examples}"
            " > {log} 2>&1"

else:

    rule keep_initial_model:
        input:
            model=f"{RESULTS}/{SITES[0]}/rounds/1/global.safetensors",
        output:
            model="results/{study}/initial.safetensors",
        log:
            "logs/keep_initial_model/{study}.log",
        benchmark:
            "benchmarks/keep_initial_model/{study}.tsv"
        conda:
            "../envs/training.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 200 * attempt,
            runtime=lambda wildcards, attempt: 5 * attempt,
        params:
            study=STUDY_DIGEST,
        shell:
            "cp {input.model} {output.model} > {log} 2>&1"
