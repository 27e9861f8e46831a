# A joint key is tried before anybody signs: known numbers are encrypted, added, decrypted by each holder and opened. A key
# that opens nothing would void every round, with patients charged.

if RUN.is_rehearsal and RUN.study.protection.is_encrypted:

    KNOWN = ("1", "2")  # vectors of known numbers, and how many are in each
    KNOWN_COUNT = 1000
    LEADER = min(RUN.helpers)

    rule encrypt_known_numbers:
        input:
            key=rules.reveal_key_shares.output.key,
        output:
            numbers=f"{CEREMONY}/known/{{number}}.npy",
            hidden=f"{CEREMONY}/known/{{number}}.bfv",
        log:
            f"logs/encrypt_known_numbers/{STUDY}.{{number}}.log",
        benchmark:
            f"benchmarks/encrypt_known_numbers/{STUDY}.{{number}}.tsv"
        wildcard_constraints:
            number="|".join(KNOWN),
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            label=f"--label {STUDY}-{{number}} --count {KNOWN_COUNT}",
        shell:
            "( fedcall encryption known {params.label} --output {output.numbers} && fedcall encryption encrypt"
            " --key {input.key} --values {output.numbers} --output {output.hidden} ) > {log} 2>&1"

    rule add_ciphertexts:
        input:
            expand(rules.encrypt_known_numbers.output.hidden, number=KNOWN),
        output:
            f"{CEREMONY}/known/sum.bfv",
        log:
            f"logs/add_ciphertexts/{STUDY}.log",
        benchmark:
            f"benchmarks/add_ciphertexts/{STUDY}.tsv"
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        shell:
            "fedcall encryption add {input} --output {output} > {log} 2>&1"

    rule decrypt_partially:
        input:
            rules.add_ciphertexts.output,
        output:
            f"{CEREMONY}/known/{{holder}}.partial",
        log:
            f"logs/decrypt_partially/{STUDY}.{{holder}}.log",
        benchmark:
            f"benchmarks/decrypt_partially/{STUDY}.{{holder}}.tsv"
        wildcard_constraints:
            holder="|".join(RUN.helpers),
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            leads=lambda wildcards: "--lead" if wildcards.holder == LEADER else "",
        shell:
            "fedcall encryption partial --sum {input} --keys private/{wildcards.holder}/keys --ceremony {STUDY}"
            " {params.leads} --output {output} > {log} 2>&1"

    rule open_known_sum:
        input:
            partials=[
                f"{CEREMONY}/known/{name}.partial" for name in sorted(RUN.helpers)
            ],
            known=expand(rules.encrypt_known_numbers.output.numbers, number=KNOWN),
        output:
            f"{CEREMONY}/known/sum.npy",
        log:
            f"logs/open_known_sum/{STUDY}.log",
        benchmark:
            f"benchmarks/open_known_sum/{STUDY}.tsv"
        group:
            "agreement"
        conda:
            "../envs/encryption.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 1000 * attempt,
            runtime=lambda wildcards, attempt: 10 * attempt,
        params:
            known=lambda wildcards, input: options("--of", input.known),
            numbers=f"--values {KNOWN_COUNT} --sites {len(KNOWN)}",
        message:
            "Trying the key holders' joint key: is the opened sum the one in the clear?"
        shell:
            "fedcall encryption fuse {input.partials} {params.numbers} {params.known} --output {output} > {log} 2>&1"
