# Calls against the truth of held-out patients, within their regions.


rule count_alleles:
    input:
        labels=labels_of_held_out,
    output:
        table="results/{study}/{site}/allele_counts.tsv",
    log:
        "logs/count_alleles/{study}.{site}.log",
    benchmark:
        "benchmarks/count_alleles/{study}.{site}.tsv"
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall allele-counts {input.labels} --output {output.table} > {log} 2>&1"


rule evaluate_calls:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls=calls_to_score,
        allele_counts=allele_counts_of,
        panel=panel_of_this_run(),
        regions=regions_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        concordance="results/{study}/{site}/concordance/{caller}/{patient}.json",
    log:
        "logs/evaluate_calls/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/evaluate_calls/{study}.{site}.{caller}.{patient}.tsv"
    wildcard_constraints:
        caller=callers_scored_one_by_one(),
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        rarity=lambda wildcards, input: (
            option("--panel", input.panel)
            or option("--allele-counts", input.allele_counts)
        ),
        version=FEDCALL_VERSION,
    shell:
        "fedcall concordance --truth {input.truth} --calls {input.calls} --regions {input.regions:q}"
        " --reference {input.reference:q} {params.rarity} --json {output.concordance}"
        " > {log} 2>&1"


rule list_errors:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls="results/{study}/{site}/calls/{patient}.vcf.gz",
        others=calls_of_others(),
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        regions=regions_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        errors="results/{study}/{site}/errors/{patient}.json",
        agreement="results/{study}/{site}/agreement/{patient}.json",
    log:
        "logs/list_errors/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/list_errors/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=all_but(SCORED_AT_ONCE),
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        others=others_options,
        version=FEDCALL_VERSION,
    shell:
        "fedcall errors --truth {input.truth} --calls {input.calls} --alignments {input.alignments}"
        " --regions {input.regions:q} --reference {input.reference:q} --output {output.errors} {params.others}"
        " --agreement {output.agreement} > {log} 2>&1"


rule evaluation_report:
    input:
        study="results/{study}/study.json",
        initial="results/{study}/initial.safetensors",
        final="results/{study}/final.safetensors",
        concordances=concordances_of_this_run(),
        unseen=unseen_concordances_of_this_run(),
        errors=errors_of_this_run(),
        agreements=agreements_of_this_run(),
        verdict=verdict_of_this_run(),
    output:
        html=report(
            "results/{study}/evaluation.html",
            category="Evaluation",
            labels={"study": "{study}", "may leave the hospital": "no"},
            caption="../report/evaluation.rst",
        ),
        json="results/{study}/evaluation.json",
        recommended="results/{study}/recommended.safetensors",
    log:
        "logs/evaluation_report/{study}.log",
    benchmark:
        "benchmarks/evaluation_report/{study}.tsv"
    group:
        "evaluation"
    conda:
        "../envs/reporting.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        errors=lambda wildcards, input: options("--errors", input.errors),
        agreements=lambda wildcards, input: options("--agreement", input.agreements),
        unseen=lambda wildcards, input: options("--unseen", input.unseen),
        verdict=lambda wildcards, input: options("--verdict", input.verdict),
        sheets=sheets_of_this_run(),
        key_folder=keys_of_this_run(),
        version=FEDCALL_VERSION,
    message:
        "Reporting the evaluation of study {wildcards.study}"
    shell:
        "fedcall report evaluation --study {input.study} --html {output.html} --json {output.json}"
        " --keys {params.key_folder:q} --benchmarks benchmarks {params.errors} {params.agreements} {params.unseen}"
        " {params.verdict} {params.sheets}"
        " --initial {input.initial} --final {input.final} --recommended {output.recommended}"
        " {input.concordances} > {log} 2>&1"
