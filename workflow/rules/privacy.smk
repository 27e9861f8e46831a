# What was spent, on what, and what is not covered: per site from its ledger and receipts, then for the study.


rule privacy_report:
    input:
        study=f"{RESULTS}/study.json",
        decisions=at_sites_of_job("admission.jsonl"),
        judgements=judgements_of_job,
        audit=audit_if_run,
    output:
        html=[
            report(
                page,
                category="Privacy",
                labels={
                    "study": STUDY,
                    "site": site,
                    "may leave the hospital": "no",
                },
                caption="../report/privacy.rst",
            )
            for site, page in zip(SITES_OF_JOB, at_sites_of_job("privacy.html"))
        ],
        json=at_sites_of_job("privacy.json"),
    log:
        f"logs/privacy_report/{STUDY}.{SITE_OR_ALL}.log",
    benchmark:
        f"benchmarks/privacy_report/{STUDY}.{SITE_OR_ALL}.tsv"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        sites=lambda wildcards: options("--site", sites_of_job(wildcards)),
        files=files_of_reports(),
        audit=lambda wildcards, input: f"--audit {input.audit}" if input.audit else "",
        recalibrated=(
            "--recalibrated" if CONFIG.local.base_qualities == "recalibrated" else ""
        ),
        own_chemistry=("--own-chemistry" if CONFIG.local.chemistry == "fitted" else ""),
        version=FEDCALL_VERSION,
    shell:
        "fedcall report privacy --study {input.study} {params.sites} {params.files} {params.audit}"
        " {params.recalibrated} {params.own_chemistry} > {log} 2>&1"


rule privacy_report_of_study:
    input:
        study="results/{study}/study.json",
        sites=expand("results/{{study}}/{site}/privacy.json", site=SITES),
        audit=audit_if_run,
    output:
        html=report(
            "results/{study}/privacy.html",
            category="Privacy",
            labels={
                "study": "{study}",
                "site": "all",
                "may leave the hospital": "yes",
            },
            caption="../report/privacy.rst",
        ),
        json="results/{study}/privacy.json",
    log:
        "logs/privacy_report_of_study/{study}.log",
    benchmark:
        "benchmarks/privacy_report_of_study/{study}.tsv"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        audit=lambda wildcards, input: f"--audit {input.audit}" if input.audit else "",
        version=FEDCALL_VERSION,
    shell:
        "fedcall report privacy-study --study {input.study} --html {output.html} --json {output.json}"
        " {params.audit} {input.sites} > {log} 2>&1"
