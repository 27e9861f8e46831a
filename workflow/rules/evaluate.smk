# Calls against the truth of held-out patients, within their regions.


def evaluations_of_this_run():
    """Return the evaluation report, or nothing if no held-out patient has a truth."""
    if not any(RUN.scored.values()):
        return []
    return [f"{RESULTS}/evaluation.{suffix}" for suffix in ("html", "json")]


def calls_to_score(wildcards):
    folder = "calls" if wildcards.caller == "final" else f"baselines/{wildcards.caller}"
    return f"{RESULTS}/{wildcards.site}/{folder}/{wildcards.patient}.vcf.gz"


rule evaluate_calls:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls=calls_to_score,
        regions=regions_of,
        reference=reference_of,
    output:
        concordance="results/{study}/{site}/concordance/{caller}/{patient}.json",
    log:
        "logs/evaluate_calls/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/evaluate_calls/{study}.{site}.{caller}.{patient}.tsv"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall concordance --truth {input.truth} --calls {input.calls} --regions {input.regions:q}"
        " --reference {input.reference:q} --json {output.concordance} > {log} 2>&1"


rule evaluation_report:
    input:
        study="results/{study}/study.json",
        concordances=[
            f"{RESULTS}/{folder}/concordance/{caller}/{patient}.json"
            for folder, patients in RUN.scored.items()
            for caller in CALLERS
            for patient in patients
        ],
    output:
        html=report(
            "results/{study}/evaluation.html",
            category="Evaluation",
            labels={"study": "{study}"},
            caption="../report/evaluation.rst",
        ),
        json="results/{study}/evaluation.json",
    log:
        "logs/evaluation_report/{study}.log",
    benchmark:
        "benchmarks/evaluation_report/{study}.tsv"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall report evaluation --study {input.study} --html {output.html} --json {output.json}"
        " {input.concordances} > {log} 2>&1"
