# Does training leak more than it claims, and who took part? Asked with made-up patients: `snakemake audit_privacy`.


rule audit_privacy:
    input:
        study=CONFIG.study,
    output:
        html=report(
            f"{RESULTS}/audit.html",
            category="Privacy",
            labels={"study": STUDY, "site": "audit", "may leave the hospital": "yes"},
            caption="../report/audit.rst",
        ),
        json=f"{RESULTS}/audit.json",
    log:
        f"logs/audit_privacy/{STUDY}.log",
    benchmark:
        f"benchmarks/audit_privacy/{STUDY}.tsv"
    conda:
        "../envs/experiments.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        study=STUDY_DIGEST,
        version=FEDCALL_VERSION,
    message:
        "Auditing the training of this study with canary patients"
    shell:
        "fedcall audit --study {input.study:q} --self-check --membership --threads {threads}"
        " --output {output.json} --html {output.html} > {log} 2>&1"
