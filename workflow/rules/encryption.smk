# Where updates are encrypted, a rehearsal's key holders make their joint key; holders of their own do it by hand
# (docs/encrypted-sums.md). The rounds' own sums are no rules: what may be decrypted once only, against a log that survives
# kill -9, belongs to the holders' service.

CEREMONY = f"{RESULTS}/ceremony"

if RUN.is_rehearsal and RUN.study.protection.is_encrypted:

    # All commit to their shares before anybody shows one. Secrets lie in private/, and are never made a second time.
    rule commit_key_shares:
        input:
            helpers=[f"{RESULTS}/{name}/helper.json" for name in RUN.helpers],
        output:
            [f"{CEREMONY}/{name}.commitment.json" for name in RUN.helpers],
        log:
            f"logs/commit_key_shares/{STUDY}.log",
        benchmark:
            f"benchmarks/commit_key_shares/{STUDY}.tsv"
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            commands=lambda wildcards: " && ".join(
                f"fedcall encryption keygen --keys private/{name}/keys --ceremony {STUDY} --exchange {CEREMONY}"
                for name in RUN.helpers
            ),
        shell:
            "( {params.commands} ) > {log} 2>&1"

    rule reveal_key_shares:
        input:
            rules.commit_key_shares.output,
            helpers=rules.commit_key_shares.input.helpers,
        output:
            key=f"{CEREMONY}/joint.key",
            shares=[
                f"{CEREMONY}/{name}.{kind}"
                for name in RUN.helpers
                for kind in ("share", "share.json")
            ],
        log:
            f"logs/reveal_key_shares/{STUDY}.log",
        benchmark:
            f"benchmarks/reveal_key_shares/{STUDY}.tsv"
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            commands=lambda wildcards, input: " && ".join(
                f"fedcall encryption {command} --ceremony {STUDY} --exchange {CEREMONY}"
                f" {options('--holder', input.helpers)}"
                for command in (
                    *(f"reveal --keys private/{name}/keys" for name in RUN.helpers),
                    f"join --key {CEREMONY}/joint.key",
                )
            ),
        shell:
            "( {params.commands} ) > {log} 2>&1"
