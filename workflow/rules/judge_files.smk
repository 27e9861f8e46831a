# Files of the private judge: functions for judge.smk. A study without `evaluation.epsilon` has none of its jobs.


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
    """Return the options that name the site's own: keys, ledger, earlier receipts."""
    own = {
        "--keys": CONFIG.site_key,
        "--ledger": CONFIG.ledger,
        "--receipts": f"{RESULTS}/{{site}}/rounds",
    }
    return " ".join(option(name, value) for name, value in own.items())


def own_judgement():
    """Return the option with which a verdict is held against the site's own judgement."""
    if SITES[0] not in RUN.judging:
        return ""
    return option("--judgement", f"{RESULTS}/{SITES[0]}/judgement/judgement.json")


def verdict_of_this_run():
    """Return the verdict of all sites' held-out patients, or nothing if the study has no judge."""
    return [f"{RESULTS}/verdict.json"] if RUN.has_judge else []
