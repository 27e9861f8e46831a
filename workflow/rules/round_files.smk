# Files and options of a round: functions for rounds.smk.

# What is over is history: no rule makes a settled round again, whatever has become of the patients' files. Jobs, which
# read this file again, know their round and need not look; reports look at all jobs there were.
SETTLED = (
    settled_rounds(Path(RESULTS), SITES, ROUNDS)
    if workflow.is_main_process and not asks_for_all_rounds(sys.argv)
    else []
)
UNSETTLED = other_rounds(SETTLED)


def unless_begun(name):
    """Return a constraint of the wildcard {study}: none makes a file again on which settled rounds rest."""
    return "(?!)" if SETTLED and Path(f"{RESULTS}/{name}").exists() else STUDY


# The model the embedded aggregator starts from; a hospital gets it from the consortium.
INITIAL = [f"{RESULTS}/initial.safetensors"] if RUN.is_rehearsal else []


def endpoint():
    """Return a parameter: the options that lead `fedcall fetch` and `fedcall upload` to the aggregator."""
    # A function, because '{site}' in it is for fedcall to replace.
    return lambda wildcards: _endpoint()


def _endpoint():
    syft = ""
    if CONFIG.syft:
        syft = f"{option('--syft', CONFIG.syft.folder)} {option('--datasite', CONFIG.syft.datasite)}"
    if RUN.is_rehearsal:
        helpers = "--helper-keys private" if RUN.helpers else ""
        enclave = f"--enclave simulated:private/{RUN.enclave}" if RUN.enclave else ""
        keys = f"--coordinator-keys private/{COORDINATOR}/keys --initial {INITIAL[0]}"
        return f"--rehearsal {RESULTS}/aggregator {keys} {syft} {helpers} {enclave}"
    if syft:
        return syft
    if CONFIG.handover:
        return option("--handover", CONFIG.handover)
    if CONFIG.drop:
        return option("--drop", CONFIG.drop)
    return f"{option('--aggregator', CONFIG.aggregator)} {option('--ca', CONFIG.ca)}"


def at_all_sites(name):
    """Return a file of a round at every site whose jobs run here."""
    # With the study's name and not its wildcard Snakemake finds at once who makes a file, however many sites there are.
    return [f"{RESULTS}/{site}/rounds/{{round}}/{name}" for site in SITES]


def files_of_round(round, *names):
    return [
        f"{RESULTS}/{site}/rounds/{round}/{name}" for site in SITES for name in names
    ]


def in_round(name):
    """Return a parameter: a file of a round for `fedcall fetch` and `upload`, which put in the site's name."""
    return lambda wildcards: f"{RESULTS}/{{site}}/rounds/{wildcards.round}/{name}"


def visiting_sites(wildcards):
    """Return the options that name the sites of an exchange and where each keeps its keys."""
    return f"{options('--site', SITES)} {option('--keys', CONFIG.site_key)}"


def end_of_round(round):
    """Return a file that is there once all sites of this run have their receipts of a round.

    One job writes the receipts of all, so the first site's stands for them: a file more per site, round and rule would
    be seconds of planning.
    """
    return f"{RESULTS}/{SITES[0]}/rounds/{round}/receipt.json"


def before_round(wildcards):
    """Return what a round's global model waits for: the first model, or the end of the round before."""
    before = int(wildcards.round) - 1
    return end_of_round(before) if before else INITIAL


# In a rehearsal one job does for all sites what takes longer to start than a small site's work: it trains a round, a few
# sites at a time, compares people, writes privacy reports. At a hospital a job is the hospital's.
TOGETHER = RUN.is_rehearsal and CONFIG.train_together
SITE_OR_ALL = "all" if TOGETHER else "{site}"
SITE_OR_ALL_SITES = "all sites" if TOGETHER else "{wildcards.site}"
THREADS_OF_SITES = min(len(SITES), 8) if TOGETHER else 1


SITES_OF_JOB = SITES if TOGETHER else ["{site}"]


def at_sites_of_job(name):
    """Return a file at every site that one job is for."""
    return [f"{RESULTS}/{site}/{name}" for site in SITES_OF_JOB]


def sites_of_job(wildcards):
    return SITES if TOGETHER else [wildcards.site]


def examples_of_job(wildcards):
    return [path for site in sites_of_job(wildcards) for path in examples_of(site)]


def patients_of_job(wildcards):
    """Return the options that name the examples: by patient, since a command line has room for names and not for paths."""
    listed = [
        f"{site}={','.join(RUN.training[site])}" for site in sites_of_job(wildcards)
    ]
    where = f"{RESULTS}/{{site}}/examples/{{patient}}.safetensors"
    return f"{option('--examples', where)} {options('--patients', listed)}"


def private_of_training():
    """Return a parameter: the options that name a site's own, its keys, ledger, graphics card and earlier receipts."""
    own = {
        "--keys": CONFIG.site_key,
        "--ledger": CONFIG.ledger,
        "--receipts": f"{RESULTS}/{{site}}/rounds",
        "--device": CONFIG.device,
        "--sheet": CONFIG.samples or COHORT_FOLDER / "samples.tsv",
        "--reference": CONFIG.reference,
    }
    text = " ".join(option(name, value) for name, value in own.items())
    return lambda wildcards: text
