# Does training leak more than it claims? Asked with made-up patients only: `snakemake audit_privacy`.


rule audit_privacy:
    input:
        study=CONFIG.study,
    output:
        json=f"{RESULTS}/audit.json",
    log:
        f"logs/audit_privacy/{STUDY}.log",
    benchmark:
        f"benchmarks/audit_privacy/{STUDY}.tsv"
    conda:
        "../envs/training.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Auditing the training of this study with canary patients"
    shell:
        "fedcall audit --study {input.study:q} --self-check --output {output.json} > {log} 2>&1"
