# The agreement. A rehearsal makes keys and signs; a hospital takes the signed study it approved.

# Where updates are encrypted: what every reader of the study needs beside it.
ENCRYPTION_SHARES = (
    [f"results/{{study}}/{SHARES_FILE}"] if RUN.study.protection.is_encrypted else []
)

if RUN.is_rehearsal:

    # What the simulated machine of a sealed rehearsal must show; none otherwise.
    ENCLAVE_POLICY = [f"{RESULTS}/enclave_policy.yaml"] if RUN.enclave else []

    # Snakemake removes a rule's outputs before it reruns, so private keys are never one: the output is the public
    # half, and keys that exist are kept.
    rule create_keys:
        output:
            identities=[f"{RESULTS}/{name}/site.json" for name in (COORDINATOR, *SITES)],
            helpers=[f"{RESULTS}/{name}/helper.json" for name in RUN.helpers],
            evidence=ENCLAVE_POLICY,
        log:
            f"logs/create_keys/{STUDY}.log",
        benchmark:
            f"benchmarks/create_keys/{STUDY}.tsv"
        group:
            "agreement"
        conda:
            "../envs/federation.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 500 * attempt,
            runtime=lambda wildcards, attempt: 5 * attempt,
        params:
            coordinator=f"--name {COORDINATOR} --output private/{COORDINATOR}/keys",
            sites=lambda wildcards: options("--name", SITES),
            key_folder=lambda wildcards: CONFIG.site_key,
            public=lambda wildcards: f"{RESULTS}/{{site}}/site.json",
            helpers="".join(
                f" && fedcall helper keygen --name {name} --output private/{name}/keys"
                f" --public {RESULTS}/{name}/helper.json"
                for name in RUN.helpers
            ),
            enclave="".join(
                f" && fedcall attestation simulate private/{RUN.enclave} --policy {policy}"
                for policy in ENCLAVE_POLICY
            ),
        shell:
            "( fedcall site keygen {params.coordinator} --public {params.public:q}"
            " && fedcall site keygen {params.sites} --output {params.key_folder:q} --public {params.public:q}"
            "{params.helpers}{params.enclave} )"
            " > {log} 2>&1"

    rule agree_study:
        input:
            terms=CONFIG.study,
            initial="results/{study}/initial.safetensors",
            coordinator=f"results/{{study}}/{COORDINATOR}/site.json",
            sites=expand("results/{{study}}/{site}/site.json", site=SITES),
            helpers=[f"{RESULTS}/{name}/helper.json" for name in RUN.helpers],
            evidence=ENCLAVE_POLICY,
            # The holders' shares, once their joint key was seen to open a sum.
            tried=[f"{CEREMONY}/known/sum.npy"] if ENCRYPTION_SHARES else [],
        output:
            *ENCRYPTION_SHARES,
            draft="results/{study}/study.yaml",
            study="results/{study}/study.json",
        log:
            "logs/agree_study/{study}.log",
        benchmark:
            "benchmarks/agree_study/{study}.tsv"
        wildcard_constraints:
            study=unless_begun("study.json"),
        group:
            "agreement"
        conda:
            "../envs/federation.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 5 * attempt,
        params:
            sites=lambda wildcards, input: " ".join(
                f"--site {identity}={len(RUN.training[site])}{held_out(site)}"
                for site, identity in zip(SITES, input.sites)
            ),
            helpers=lambda wildcards, input: " ".join(
                f"--helper {identity}" for identity in input.helpers
            )
            + (
                f" --ceremony {STUDY} --exchange {CEREMONY}"
                if ENCRYPTION_SHARES
                else ""
            ),
            evidence=lambda wildcards, input: " ".join(
                f"--evidence {policy}" for policy in input.evidence
            ),
            key_folder=f"private/{COORDINATOR}/keys",
            study=STUDY_DIGEST,
            version=FEDCALL_VERSION,
        shell:
            "( fedcall study new --terms {input.terms:q} --initial {input.initial}"
            " --coordinator {input.coordinator} {params.sites} {params.helpers} {params.evidence}"
            " --output {output.draft}"
            " && fedcall study sign --study {output.draft} --keys {params.key_folder} --output {output.study} ) > {log} 2>&1"

else:

    rule accept_study:
        input:
            study=CONFIG.study,
            shares=CONFIG.study.parent / SHARES_FILE if ENCRYPTION_SHARES else [],
        output:
            *ENCRYPTION_SHARES,
            study="results/{study}/study.json",
        log:
            "logs/accept_study/{study}.log",
        benchmark:
            "benchmarks/accept_study/{study}.tsv"
        conda:
            "../envs/federation.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 500 * attempt,
            runtime=lambda wildcards, attempt: 5 * attempt,
        params:
            study=STUDY_DIGEST,
            shares=lambda wildcards, input: (
                f"cp {shlex.quote(str(input.shares))} {RESULTS}/{SHARES_FILE} && "
                if ENCRYPTION_SHARES
                else ""
            ),
        shell:
            "( fedcall study check --study {input.study:q}"
            " && {params.shares}cp {input.study:q} {output.study} ) > {log} 2>&1"
