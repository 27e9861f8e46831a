# The rounds: fetch the global model, train on private examples, upload the update, keep the receipt.


rule fetch_global:
    input:
        study="results/{study}/study.json",
        before=before_round,
    output:
        model="results/{study}/{site}/rounds/{round}/global.safetensors",
    log:
        "logs/fetch_global/{study}.{site}.{round}.log",
    benchmark:
        "benchmarks/fetch_global/{study}.{site}.{round}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        key_folder=CONFIG.site_key,
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Round {wildcards.round} at {wildcards.site}: fetching the global model, once the round is open"
    shell:
        "fedcall fetch --study {input.study} --site {wildcards.site} --keys {params.key_folder:q}"
        " --round {wildcards.round} {params.endpoint} --output {output.model} > {log} 2>&1"


rule train_round:
    input:
        study="results/{study}/study.json",
        model="results/{study}/{site}/rounds/{round}/global.safetensors",
        receipt=own_receipt_before,
        examples=lambda wildcards: examples_of(wildcards.site),
    output:
        weights="results/{study}/{site}/rounds/{round}/update.safetensors",
        claim="results/{study}/{site}/rounds/{round}/claim.json",
    log:
        "logs/train_round/{study}.{site}.{round}.log",
    benchmark:
        "benchmarks/train_round/{study}.{site}.{round}.tsv"
    retries: 0  # a second attempt must go through the ledger, not around it
    conda:
        "../envs/training.yaml"
    threads: 1  # a release is the same, bit for bit, only at the same number of threads
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        key_folder=CONFIG.site_key,
        ledger=CONFIG.ledger,
        device=CONFIG.device,
        receipt=lambda _, input: option("--receipt", input.receipt),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Round {wildcards.round} at {wildcards.site}: charging the ledger, then training"
    shell:
        "fedcall train-round --study {input.study} --site {wildcards.site} --keys {params.key_folder:q}"
        " --round {wildcards.round} --model {input.model} --ledger {params.ledger:q} --device {params.device}"
        " {params.receipt} --update {output.weights} --claim {output.claim} {input.examples} > {log} 2>&1"


rule upload_update:
    input:
        study="results/{study}/study.json",
        weights="results/{study}/{site}/rounds/{round}/update.safetensors",
        claim="results/{study}/{site}/rounds/{round}/claim.json",
        initial=INITIAL,
    output:
        receipt="results/{study}/{site}/rounds/{round}/receipt.json",
    log:
        "logs/upload_update/{study}.{site}.{round}.log",
    benchmark:
        "benchmarks/upload_update/{study}.{site}.{round}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        key_folder=CONFIG.site_key,
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    shell:
        "fedcall upload --study {input.study} --site {wildcards.site} --keys {params.key_folder:q}"
        " --round {wildcards.round} --update {input.weights} --claim {input.claim}"
        " {params.endpoint} --receipt {output.receipt} > {log} 2>&1"


# One file for the receipts of all sites, so that the plan grows with the sites of a round and not with their square.
rule close_round:
    input:
        receipts=lambda wildcards: receipts_of_round(wildcards.round),
    output:
        receipts="results/{study}/rounds/{round}.receipts.jsonl",
    log:
        "logs/close_round/{study}.{round}.log",
    benchmark:
        "benchmarks/close_round/{study}.{round}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 100 * attempt,
        runtime=lambda wildcards, attempt: 5 * attempt,
    shell:
        "( for receipt in {input.receipts}; do cat $receipt; echo; done > {output.receipts} ) 2> {log}"


rule fetch_final:
    input:
        study="results/{study}/study.json",
        receipts=receipts_of_round(ROUNDS[-1]),
        initial=INITIAL,
    output:
        model="results/{study}/final.safetensors",
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
        key_folder=private_folder(CONFIG.site_key, SITES[0]),
        round=ROUNDS[-1] + 1,
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Fetching the final model of study {wildcards.study}, once the last round is closed"
    shell:
        "fedcall fetch --study {input.study} --site {params.site} --keys {params.key_folder:q}"
        " --round {params.round} {params.endpoint} --output {output.model} > {log} 2>&1"
