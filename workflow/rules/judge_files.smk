# Files and regions by which models are compared: functions for judge.smk. A study without `evaluation.epsilon` has none of
# the private judge's jobs.


def training_regions(regions):
    """Return the options that say where a patient is trained on: not where the study keeps regions for the evaluation."""
    return f"{option('--regions', regions)} {options('--leave-out', RUN.study.unseen_regions)}"


def unseen_regions_options():
    """Return the options that say where nobody was trained on; nothing where that is not known.

    A hospital does not know where others train, and where a gVCF is sure of its genotypes depends on the patient's
    data: then only regions on which the study agreed are unseen.
    """
    if RUN.study.unseen_regions:
        return options("--within", RUN.study.unseen_regions)
    trained = [
        patient for patient in RUN.patients if patient.split in ("train", PUBLIC)
    ]
    unknown = any(
        patient.regions is None or patient.has_gvcf_regions for patient in trained
    )
    if not RUN.is_rehearsal or unknown:
        return ""
    return options("--outside", sorted({str(patient.regions) for patient in trained}))


def calls_to_score(wildcards):
    folder = "calls" if wildcards.caller == "final" else f"baselines/{wildcards.caller}"
    return f"{RESULTS}/{wildcards.site}/{folder}/{wildcards.patient}.vcf.gz"


def held_out(site):
    """Return the site's declared held-out patients, as `fedcall study new --site` has them."""
    return f"+{len(RUN.judging[site])}" if site in RUN.judging else ""


def at_judging_sites(name):
    """Return a file of the judge at every site of this run that has held-out patients to judge on."""
    return [f"{RESULTS}/{site}/judgement/{name}" for site in RUN.judging]


def judged_concordances(site, caller):
    """Return how a model calls the site's held-out patients: where nobody trained, if the study agreed on such regions."""
    folder = "unseen" if RUN.study.unseen_regions else "concordance"
    return [
        f"{RESULTS}/{site}/{folder}/{caller}/{patient}.json"
        for patient in RUN.judging[site]
    ]


def private_of_judging():
    """Return the options that name the site's own: keys, ledger, earlier receipts, and who its people are."""
    own = {
        "--keys": CONFIG.site_key,
        "--ledger": CONFIG.ledger,
        "--receipts": f"{RESULTS}/{{site}}/rounds",
        "--sheet": CONFIG.samples or COHORT_FOLDER / "samples.tsv",
        "--reference": CONFIG.reference,
    }
    return " ".join(option(name, value) for name, value in own.items())


def sheets_of_this_run():
    """Return the options that name who everybody is: two rows may be parts of one public person."""
    sheets = [CONFIG.samples or COHORT_FOLDER / "samples.tsv", CONFIG.public_samples]
    return options("--sheet", [sheet for sheet in sheets if sheet])


def judgements_of_job(wildcards):
    """Return the answers to sites' judgements, which their privacy reports wait for; nothing without a judge."""
    return [
        f"{RESULTS}/{site}/judgement/receipt.json"
        for site in sites_of_job(wildcards)
        if RUN.judging.get(site)
    ]


def files_of_reports():
    """Return a parameter: the options that name files of privacy reports, `{site}` in each."""
    own = {
        "--keys": CONFIG.site_key,
        "--ledger": CONFIG.ledger,
        "--sketches": CONFIG.sketches,
        "--rounds": f"{RESULTS}/{{site}}/rounds",
        "--log": f"{RESULTS}/{{site}}/admission.jsonl",
        "--html": f"{RESULTS}/{{site}}/privacy.html",
        "--json": f"{RESULTS}/{{site}}/privacy.json",
    }
    text = " ".join(option(name, value) for name, value in own.items())
    return lambda wildcards: text


def own_judgement():
    """Return the option with which a verdict is held against the site's own judgement."""
    if SITES[0] not in RUN.judging:
        return ""
    return option("--judgement", f"{RESULTS}/{SITES[0]}/judgement/judgement.json")


def verdict_of_this_run():
    """Return the verdict of all sites' held-out patients, or nothing if the study has no judge."""
    return [f"{RESULTS}/verdict.json"] if RUN.has_judge else []
