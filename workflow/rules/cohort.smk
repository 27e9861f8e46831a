# The demo's patients: simulated, where a hospital has its sheet.

if CONFIG.cohort is not None:

    rule simulate_cohort:
        output:
            reference=COHORT_FOLDER / "reference.fa",
            reference_index=COHORT_FOLDER / "reference.fa.fai",
            regions=COHORT_FOLDER / "regions.bed",
            sheet=COHORT_FOLDER / "samples.tsv",
            alignments=[patient.alignments for patient in RUN.patients],
            indexes=[f"{patient.alignments}.bai" for patient in RUN.patients],
            truths=[patient.truth for patient in RUN.patients],
            truth_indexes=[f"{patient.truth}.tbi" for patient in RUN.patients],
        log:
            "logs/simulate_cohort/cohort.log",
        benchmark:
            "benchmarks/simulate_cohort/cohort.tsv"
        conda:
            "../envs/reads.yaml"
        threads: 2
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=lambda wildcards, attempt: 30 * attempt,
        params:
            folder=COHORT_FOLDER,
            cohort=CONFIG.cohort,
            sites=" ".join(
                f"--site {site}={patients}"
                for site, patients in CONFIG.cohort.sites.items()
            ),
            version=FEDCALL_VERSION,
        message:
            f"Simulating the patients of {', '.join(CONFIG.cohort.sites)} in {COHORT_FOLDER}"
        shell:
            "fedcall simulate --seed {params.cohort.seed} {params.sites} --holdout {params.cohort.holdout}"
            " --public {params.cohort.public} --public-holdout {params.cohort.public_holdout}"
            " --region-length {params.cohort.region_length} --depth {params.cohort.depth}"
            " --output {params.folder} --threads {threads} > {log} 2>&1"
