# Whom the target privacy_utility_sweep trains and scores, and which points it asks for.

SHEET = CONFIG.samples or COHORT_FOLDER / "samples.tsv"


def people_of_sweep(template, splits):
    """Return a file of every patient with a truth in these splits, public people aside."""
    return [
        template.format(site=patient.site, patient=patient.patient)
        for patient in RUN.patients
        if patient.site != PUBLIC and patient.split in splits and patient.truth
    ]


def regions_of_sweep(wildcards):
    """Return the regions within which calls are scored and which are made here."""
    return [
        f"{RESULTS}/{patient.site}/regions/{patient.patient}.bed"
        for patient in RUN.patients
        if patient.split == "holdout" and patient.has_gvcf_regions
    ]


def examples_of_sweep(wildcards):
    """Return the examples of everybody who trains, with or without a truth, and of everybody who is scored."""
    scored = people_of_sweep(
        f"{RESULTS}/{{site}}/examples/{{patient}}.safetensors", ["holdout"]
    )
    return [path for site in SITES for path in examples_of(site)] + scored


def points_of_sweep(wildcards):
    """Return the points, or stop with one line if anybody's data is private."""
    from fedcall.experiments.cohort import refuse_private

    try:
        refuse_private(SHEET, [one for one in RUN.patients if one.site != PUBLIC])
        swept = list(RUN.swept)
    except FedcallError as error:
        print(f"fedcall: {shown(error, 4000)}", file=sys.stderr)
        sys.exit(error.exit_code)
    totals = [*(f"{epsilon:g}" for epsilon in CONFIG.sweep.epsilons), "inf"]
    points = [(STUDY, "own"), *((terms, total) for terms in swept for total in totals)]
    return [
        f"{RESULTS}/utility/{terms}.{total}.{seed}.json"
        for terms, total in points
        for seed in range(1, CONFIG.sweep.seeds + 1)
    ]
