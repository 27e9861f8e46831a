# Names shared by all rules: this run, checked before any job, and the files that follow from it.

import hashlib
import shlex
from pathlib import Path

from snakemake.logging import logger

# Rules call `fedcall` by name: the one installed beside this Snakemake, whether or not its environment is activated.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
# Environments made with --sdm conda install the package from this checkout (envs/*.post-deploy.sh).
os.environ["FEDCALL_CHECKOUT"] = str(Path(workflow.basedir).resolve().parent)

from fedcall import __version__ as FEDCALL_VERSION
from fedcall.errors import FedcallError
from fedcall.run import COHORT_FOLDER, PUBLIC, load_run

try:
    RUN = load_run(
        workflow.configfiles[-1] if workflow.configfiles else "config", config
    )
except FedcallError as error:
    logger.error(f"fedcall: {error}")  # one line, without a traceback into the workflow
    sys.exit(error.exit_code)

CONFIG = RUN.config
STUDY = RUN.study.name
STUDY_DIGEST = (
    RUN.study.digest
)  # of the terms in a rehearsal, of the signed study at a site
SITES = list(RUN.sites)
ROUNDS = range(1, RUN.study.rounds + 1)
RESULTS = f"results/{STUDY}"
COORDINATOR = "coordinator"

NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"


wildcard_constraints:
    study=STUDY,
    site=NAME,
    patient=NAME,
    round="[1-9][0-9]*",
    caller="final|likelihood|initial|bcftools",


# Models that call the held-out patients beside the study's own, for comparison; without public training the initial
# model is the likelihood caller, so it is not listed twice.
MODEL_BASELINES = ["likelihood"] + (
    ["initial"] if RUN.training[PUBLIC] or not RUN.is_rehearsal else []
)
CALLERS = ["final", *MODEL_BASELINES, "bcftools"]


def private_folder(template, site):
    """Return a path outside the results, such as that of a site's keys or ledger."""
    return template.format(site=site)


def ledger_of(wildcards):
    return private_folder(CONFIG.ledger, wildcards.site)


def keys_of(wildcards):
    if wildcards.site == COORDINATOR:
        return f"private/{COORDINATOR}/keys"
    return private_folder(CONFIG.site_key, wildcards.site)


def alignments_of(wildcards):
    return str(RUN.by_name[wildcards.patient].alignments)


def truth_of(wildcards):
    return str(RUN.by_name[wildcards.patient].truth)


def regions_of(wildcards):
    regions = RUN.by_name[wildcards.patient].regions
    return str(regions) if regions else []


def reference_of(wildcards):
    if CONFIG.cohort is not None:
        return str(COHORT_FOLDER / "reference.fa")
    return str(RUN.by_name[wildcards.patient].reference or CONFIG.reference)


def sample_of(wildcards):
    """Return the name of the patient's column in the truth VCF."""
    return RUN.by_name[wildcards.patient].sample or wildcards.patient


def labels_of(wildcards):
    """Return the normalised truth of a patient, or nothing for a patient without one."""
    if RUN.by_name[wildcards.patient].truth is None:
        return []
    return f"{RESULTS}/{wildcards.site}/labels/{wildcards.patient}.vcf.gz"


def examples_of(site):
    """Return the examples of all training patients of a site, or of the public people."""
    return [
        f"{RESULTS}/{site}/examples/{patient}.safetensors"
        for patient in RUN.training[site]
    ]


def option(name, value):
    """Return `--name value` for the shell, or nothing if there is no value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def endpoint(initial):
    """Return the options that lead `fedcall fetch` and `fedcall upload` to the aggregator."""
    if RUN.is_rehearsal:
        return (
            f"--rehearsal {RESULTS}/aggregator --coordinator-keys private/{COORDINATOR}/keys"
            f" --initial {initial}"
        )
    return f"{option('--aggregator', CONFIG.aggregator)} {option('--ca', CONFIG.ca)}"
