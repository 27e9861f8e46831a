# The rounds: fetch the global model, train on private examples, upload the update, keep the receipt.


# The exchanges of a round are one job for all sites of this run: at a hospital itself, in a rehearsal everybody.
rule fetch_global:
    input:
        study=f"{RESULTS}/study.json",
        before=before_round,
    output:
        models=at_all_sites("global.safetensors"),
    log:
        f"logs/fetch_global/{STUDY}.{{round}}.log",
    benchmark:
        f"benchmarks/fetch_global/{STUDY}.{{round}}.tsv"
    wildcard_constraints:
        round=UNSETTLED,
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        sites=visiting_sites,
        model=in_round("global.safetensors"),
        closing=f"{RESULTS}/closing.json",
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Round {wildcards.round}: fetching the global model, once the round is open"
    shell:
        "fedcall fetch --study {input.study} {params.sites} --round {wildcards.round} {params.endpoint}"
        " --closing {params.closing:q} --output {params.model:q} > {log} 2>&1"


# The global model follows from the study and from all receipts of the round before, so that training needs to wait for
# nothing else: thousands of jobs, planned by their files.
rule train_round:
    input:
        models=at_sites_of_job("rounds/{round}/global.safetensors"),
        examples=examples_of_job,
        # People compared again make no update again.
        people=map(ancient, at_sites_of_job("people_compared.txt")),
    output:
        weights=at_sites_of_job("rounds/{round}/update.safetensors"),
        claims=at_sites_of_job("rounds/{round}/claim.json"),
    log:
        f"logs/train_round/{STUDY}.{SITE_OR_ALL}.{{round}}.log",
    benchmark:
        f"benchmarks/train_round/{STUDY}.{SITE_OR_ALL}.{{round}}.tsv"
    wildcard_constraints:
        round=UNSETTLED,
    retries: 0  # a second attempt must go through the ledger, not around it
    conda:
        "../envs/training.yaml"
    threads: THREADS_OF_SITES  # a process each; one site trains in one thread, so a release is the same, bit for bit
    resources:
        mem_mb=lambda wildcards, threads: 4000 * threads,
        runtime=240,
    params:
        signed=f"{RESULTS}/study.json",
        sites=lambda wildcards: options("--site", sites_of_job(wildcards)),
        private=private_of_training(),
        patients=patients_of_job,
        model=in_round("global.safetensors"),
        weights=in_round("update.safetensors"),
        claim=in_round("claim.json"),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        f"Round {{wildcards.round}} at {SITE_OR_ALL_SITES}: charging the ledger, then training"
    shell:
        "fedcall train-round --study {params.signed} {params.sites} --round {wildcards.round} {params.private}"
        " --model {params.model:q} --update {params.weights:q} --claim {params.claim:q} {params.patients}"
        " --threads {threads} > {log} 2>&1"


rule upload_update:
    input:
        study=f"{RESULTS}/study.json",
        weights=at_all_sites("update.safetensors"),
        claims=at_all_sites("claim.json"),
        initial=INITIAL,
    output:
        receipts=at_all_sites("receipt.json"),
    log:
        f"logs/upload_update/{STUDY}.{{round}}.log",
    benchmark:
        f"benchmarks/upload_update/{STUDY}.{{round}}.tsv"
    wildcard_constraints:
        round=UNSETTLED,
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        sites=visiting_sites,
        weights=in_round("update.safetensors"),
        claim=in_round("claim.json"),
        receipt=in_round("receipt.json"),
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    shell:
        "fedcall upload --study {input.study} {params.sites} --round {wildcards.round} {params.endpoint}"
        " --update {params.weights:q} --claim {params.claim:q} --receipt {params.receipt:q} > {log} 2>&1"


rule fetch_final:
    input:
        study="results/{study}/study.json",
        receipts=end_of_round(ROUNDS[-1]),
        initial=INITIAL,
    output:
        model="results/{study}/final.safetensors",
        decisions=expand("results/{{study}}/{site}/admission.jsonl", site=SITES),
    log:
        "logs/fetch_final/{study}.log",
    benchmark:
        "benchmarks/fetch_final/{study}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        site=SITES[0],
        sites=visiting_sites,
        key_folder=private_folder(CONFIG.site_key, SITES[0]),
        round=ROUNDS[-1] + 1,
        closing=f"{RESULTS}/closing.json",
        endpoint=endpoint(),
        decisions=lambda wildcards: f"{RESULTS}/{{site}}/admission.jsonl",
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Fetching the final model of study {wildcards.study}, once the last round is closed, and what was decided"
    shell:
        "fedcall fetch --study {input.study} --site {params.site} --keys {params.key_folder:q}"
        " --round {params.round} {params.endpoint} --closing {params.closing:q} --output {output.model} > {log} 2>&1 &&"
        " fedcall fetch-log --study {input.study} {params.sites} {params.endpoint}"
        " --output {params.decisions:q} >> {log} 2>&1"
