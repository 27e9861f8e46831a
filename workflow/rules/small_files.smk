# Whose regions are so small that one job does what several do for a larger patient. Names for small.smk and its
# counterparts. Where examples need a table of base qualities, they are a job of their own, as the table comes between.

SMALL = {patient for patient in small_patients(RUN) if SHARDS[patient] == 1}


def small_with_truth(names):
    return [
        patient
        for patient in names
        if patient in SMALL and RUN.by_name[patient].truth is not None
    ]


# Prepared up to their examples, prepared without (nobody trains on the held-out), and scored in one job.
PREPARED_TO_TRAIN = (
    small_with_truth(one for own in RUN.training.values() for one in own)
    if CONFIG.local.base_qualities == "reported"
    else []
)
PREPARED = [
    patient
    for patient in small_with_truth(RUN.by_name)
    if patient not in set(PREPARED_TO_TRAIN)
]
SCORED_AT_ONCE = small_with_truth(one for own in RUN.scored.values() for one in own)


def only(names):
    """Return a wildcard's pattern for these patients."""
    return "|".join(names) or "(?!)"


def all_but(*groups):
    """Return a wildcard's pattern for everybody who is in none of the groups."""
    others = {patient for names in groups for patient in names}
    return only(patient for patient in RUN.by_name if patient not in others)


def undivided_but(names):
    """Return a wildcard's pattern for patients whose regions fit one shard, without these."""
    divided = [patient for patient in SHARDS if SHARDS[patient] > 1]
    return all_but(divided, names)


# Callers that need no other program; those that do may take hours or fail, and are waited for one by one.
QUICK_BASELINES = [
    caller for caller in CALLERS if caller in (*MODEL_BASELINES, "bcftools")
]


def callers_scored_one_by_one():
    """Return the pattern of a caller before `/{patient}.json` whose calls no other job scores."""
    at_once = f"(?!/(?:{only(SCORED_AT_ONCE)})[.])"
    return f"freebayes|gatk|deepvariant|(?:final|likelihood|initial|bcftools){at_once}"


def scored_in_turn(wildcards, input):
    """Return the commands that score the calls of the baselines one after another."""
    return " --then ".join(
        f"concordance --calls {calls} --json {RESULTS}/{wildcards.site}/concordance/{caller}/{wildcards.patient}.json"
        f" {scoring(wildcards, input)}"
        for caller, calls in zip(QUICK_BASELINES, input.calls, strict=True)
    )


def scoring(wildcards, input):
    """Return the options of `fedcall concordance` that do not depend on the calls."""
    rarity = option("--panel", input.panel)
    return (
        f"--truth {input.truth} {option('--regions', input.regions)} {option('--reference', input.reference)}"
        f" {rarity or option('--allele-counts', input.allele_counts)}"
    )
