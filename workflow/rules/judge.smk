# Which model is better, where nobody trained; and the private judge: held-out patients of every site compare the final
# with the first model, as one more release.


# A gain counts where nobody trained: whoever judges the models is scored once more, there only.
rule evaluate_unseen:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls=calls_to_score,
        regions=regions_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        concordance="results/{study}/{site}/unseen/{caller}/{patient}.json",
    log:
        "logs/evaluate_unseen/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/evaluate_unseen/{study}.{site}.{caller}.{patient}.tsv"
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        unseen=unseen_regions_options(),
        version=FEDCALL_VERSION,
    shell:
        "fedcall concordance --truth {input.truth} --calls {input.calls} --regions {input.regions:q} {params.unseen}"
        " --reference {input.reference:q} --json {output.concordance} > {log} 2>&1"


rule judge_models:
    input:
        study=f"{RESULTS}/study.json",
        initial=f"{RESULTS}/initial.safetensors",
        final=f"{RESULTS}/final.safetensors",
        before=lambda wildcards: judged_concordances(wildcards.site, "initial"),
        after=lambda wildcards: judged_concordances(wildcards.site, "final"),
        # People compared again judge nothing again.
        people=ancient(f"{RESULTS}/{{site}}/people_compared.txt"),
    output:
        judgement=f"{RESULTS}/{{site}}/judgement/judgement.json",
    log:
        f"logs/judge_models/{STUDY}.{{site}}.log",
    benchmark:
        f"benchmarks/judge_models/{STUDY}.{{site}}.tsv"
    retries: 0  # a second attempt must go through the ledger, not around it
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        private=private_of_judging(),
        before=lambda wildcards, input: options("--before", input.before),
        after=lambda wildcards, input: options("--after", input.after),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Judging the final model on held-out patients of {wildcards.site}: charging the ledger, then comparing"
    shell:
        "fedcall judge --study {input.study} --site {wildcards.site} {params.private} --initial {input.initial}"
        " --final {input.final} {params.before} {params.after} --output {output.judgement} > {log} 2>&1"


rule upload_judgement:
    input:
        study=f"{RESULTS}/study.json",
        judgements=at_judging_sites("judgement.json"),
        initial=INITIAL,
    output:
        receipts=at_judging_sites("receipt.json"),
    log:
        f"logs/upload_judgement/{STUDY}.log",
    benchmark:
        f"benchmarks/upload_judgement/{STUDY}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        sites=lambda wildcards: options("--site", RUN.judging),
        key_folder=lambda wildcards: CONFIG.site_key,
        judgement=lambda wildcards: f"{RESULTS}/{{site}}/judgement/judgement.json",
        receipt=lambda wildcards: f"{RESULTS}/{{site}}/judgement/receipt.json",
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    shell:
        "fedcall upload-judgement --study {input.study} {params.sites} --keys {params.key_folder:q} {params.endpoint}"
        " --judgement {params.judgement:q} --receipt {params.receipt:q} > {log} 2>&1"


rule fetch_verdict:
    input:
        study=f"{RESULTS}/study.json",
        receipts=at_judging_sites("receipt.json"),
        final=f"{RESULTS}/final.safetensors",
        initial=INITIAL,
    output:
        verdict=f"{RESULTS}/verdict.json",
    log:
        f"logs/fetch_verdict/{STUDY}.log",
    benchmark:
        f"benchmarks/fetch_verdict/{STUDY}.tsv"
    conda:
        "../envs/federation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        site=SITES[0],
        key_folder=private_folder(CONFIG.site_key, SITES[0]),
        judgement=own_judgement(),
        endpoint=endpoint(),
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Fetching what all sites' held-out patients say of the final model, once every site has judged"
    shell:
        "fedcall fetch-verdict --study {input.study} --site {params.site} --keys {params.key_folder:q}"
        " {params.endpoint} {params.judgement} --output {output.verdict} > {log} 2>&1"
