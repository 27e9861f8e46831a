# Held-out patients with small regions: their calls are scored in two jobs, before and after the study's model is there.


rule evaluate_baselines:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls=[
            f"results/{{study}}/{{site}}/baselines/{caller}/{{patient}}.vcf.gz"
            for caller in QUICK_BASELINES
        ],
        allele_counts=allele_counts_of,
        panel=panel_of_this_run(),
        regions=regions_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        concordances=[
            f"results/{{study}}/{{site}}/concordance/{caller}/{{patient}}.json"
            for caller in QUICK_BASELINES
        ],
    log:
        "logs/evaluate_baselines/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/evaluate_baselines/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=only(SCORED_AT_ONCE),
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        commands=scored_in_turn,
        version=FEDCALL_VERSION,
    shell:
        "fedcall {params.commands} > {log} 2>&1"


rule evaluate_patient:
    input:
        truth="results/{study}/{site}/labels/{patient}.vcf.gz",
        calls="results/{study}/{site}/calls/{patient}.vcf.gz",
        others=calls_of_others(),
        allele_counts=allele_counts_of,
        panel=panel_of_this_run(),
        alignments="results/{study}/{site}/alignments/{patient}.bam",
        index=f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        regions=regions_of,
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        concordance="results/{study}/{site}/concordance/final/{patient}.json",
        errors="results/{study}/{site}/errors/{patient}.json",
        agreement="results/{study}/{site}/agreement/{patient}.json",
    log:
        "logs/evaluate_patient/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/evaluate_patient/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=only(SCORED_AT_ONCE),
    group:
        "evaluation"
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        scoring=scoring,
        others=others_options,
        version=FEDCALL_VERSION,
    shell:
        "fedcall concordance --calls {input.calls} --json {output.concordance} {params.scoring}"
        " --then errors --truth {input.truth} --calls {input.calls} --alignments {input.alignments}"
        " --regions {input.regions:q} --reference {input.reference:q} --output {output.errors} {params.others}"
        " --agreement {output.agreement} > {log} 2>&1"
