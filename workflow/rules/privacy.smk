# What was spent, on what, and what is not covered: per site from its ledger and receipts, then for the study.


rule privacy_report:
    input:
        study="results/{study}/study.json",
        decisions="results/{study}/{site}/admission.jsonl",
        judgement=judgement_of,
        audit=audit_if_run,
    output:
        html=report(
            "results/{study}/{site}/privacy.html",
            category="Privacy",
            labels={
                "study": "{study}",
                "site": "{site}",
                "may leave the hospital": "no",
            },
            caption="../report/privacy.rst",
        ),
        json="results/{study}/{site}/privacy.json",
    log:
        "logs/privacy_report/{study}.{site}.log",
    benchmark:
        "benchmarks/privacy_report/{study}.{site}.tsv"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        key_folder=CONFIG.site_key,
        ledger=CONFIG.ledger,
        sketches=CONFIG.sketches,
        rounds="results/{study}/{site}/rounds",
        audit=lambda wildcards, input: f"--audit {input.audit}" if input.audit else "",
        recalibrated=(
            "--recalibrated" if CONFIG.local.base_qualities == "recalibrated" else ""
        ),
        version=FEDCALL_VERSION,
    shell:
        "fedcall report privacy --study {input.study} --site {wildcards.site} --keys {params.key_folder:q}"
        " --ledger {params.ledger:q} --rounds {params.rounds} --log {input.decisions} {params.audit}"
        " --sketches {params.sketches:q} {params.recalibrated} --html {output.html} --json {output.json} > {log} 2>&1"


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
