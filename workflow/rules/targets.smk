# What this run makes: the files that the default target and the reports ask for.


def calls_of_this_run():
    return [
        f"{RESULTS}/{folder}/calls/{patient}.vcf.gz{suffix}"
        for folder, patients in RUN.holdout.items()
        for patient in patients
        for suffix in ("", CALLS_INDEX)
    ]


def own_calls_of_this_run():
    """Return calls with the hospital's own constants of the likelihood, if it fits any."""
    if CONFIG.local.chemistry == "joint":
        return []
    return [
        f"{RESULTS}/{site}/own_calls/{patient}.vcf.gz{suffix}"
        for site in SITES
        for patient in RUN.holdout.get(site, [])
        for suffix in ("", CALLS_INDEX)
    ]


def releases_of_this_run():
    """Return what left the sites, with the answers: of the last round, which needs all others, and what was deleted.

    Snakemake misses no intermediate file, so a deleted one of an earlier round must be asked for by name; to ask for
    all, thousands in a large study, would be seconds of planning.
    """
    answered = [
        round
        for round in ROUNDS
        if any(Path(path).exists() for path in files_of_round(round, "receipt.json"))
    ]
    names = ("update.safetensors", "claim.json", "receipt.json")
    before = [
        path
        for round in ROUNDS[: max(answered, default=0)]
        for path in files_of_round(round, *names)
    ]
    deleted = [path for path in before if not Path(path).exists()]
    return sorted({*deleted, *files_of_round(ROUNDS[-1], *names)})


def final_of_this_run():
    """Return what the study was for, and what was decided; nothing else needs the model where nobody is held out."""
    return [
        f"{RESULTS}/final.safetensors",
        *(f"{RESULTS}/{site}/admission.jsonl" for site in SITES),
    ]


def evaluations_of_this_run():
    """Return the evaluation report, or nothing if no held-out patient has a truth."""
    if not any(RUN.scored.values()):
        return []
    return [f"{RESULTS}/evaluation.{suffix}" for suffix in ("html", "json")]


def privacy_reports_of_this_run():
    """Return the reports; a hospital sees its own ledger only, so the study's report is the rehearsal's."""
    folders = [f"{RESULTS}/{site}" for site in SITES]
    folders += [RESULTS] if RUN.is_rehearsal else []
    return [
        f"{folder}/privacy.{suffix}"
        for folder in folders
        for suffix in ("html", "json")
    ]


def concordances_of_this_run():
    return [
        f"{RESULTS}/{folder}/concordance/{caller}/{patient}.json"
        for folder, patients in RUN.scored.items()
        for caller in CALLERS
        for patient in patients
    ]


def unseen_concordances_of_this_run():
    """Return how both models call public people where nobody trained: what the recommendation rests on."""
    if not unseen_regions_options():
        return []
    return [
        f"{RESULTS}/{PUBLIC}/unseen/{caller}/{patient}.json"
        for caller in ("final", "initial")
        for patient in RUN.scored[PUBLIC]
    ]


def errors_of_this_run():
    return [
        f"{RESULTS}/{folder}/errors/{patient}.json"
        for folder, patients in RUN.scored.items()
        for patient in patients
    ]
