# Names shared by all rules: this run, checked before any job, and the files that follow from it.

import shlex
from pathlib import Path

# Rules call `fedcall` by name: the one installed beside this Snakemake, whether or not its environment is activated.
# Environments made with --sdm conda install it from this checkout (envs/*.post-deploy.sh).
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), *os.get_exec_path()]),
    FEDCALL_CHECKOUT=str(
        Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
        .resolve()
        .parents[1]
    ),
)

from fedcall import __version__ as FEDCALL_VERSION
from fedcall.callers.availability import refuse_missing
from fedcall.errors import FedcallError
from fedcall.genomics.index_files import alignment_index, reference_indexes
from fedcall.protection.ceremony import SHARES_FILE
from fedcall.shown import shown
from fedcall.workflow.input_files import check_input_files
from fedcall.workflow.people import check_data
from fedcall.workflow.private_folders import protect_folders
from fedcall.workflow.rows_of_people import PUBLIC
from fedcall.workflow.run import (
    COHORT_FOLDER,
    jobs_per_patient,
    load_run,
    small_patients,
)
from fedcall.workflow.settled import asks_for_all_rounds, other_rounds, settled_rounds

# Of another workflow, whose rules may make the alignments.
IS_MODULE = workflow.modifier.namespace is not None


def deployment():
    """Return how Snakemake supplies software in this run: some of "conda" and "apptainer", or nothing."""
    settings = workflow.deployment_settings
    return {
        method.name.lower()
        for method in (settings.deployment_method if settings else ())
    }


try:
    RUN = load_run(
        workflow.configfiles[-1] if workflow.configfiles else "config",
        config,
        upstream=IS_MODULE,
    )
    # The main process looks into the files and asks the ledger; its jobs, which read this file again, need not.
    if workflow.is_main_process:
        refuse_missing(RUN.config.callers, deployment())
        for warning in check_input_files(RUN, upstream=IS_MODULE):
            print(f"fedcall: warning: {shown(warning, 4000)}", file=sys.stderr)
        if not IS_MODULE:
            check_data(RUN)
    SHARDS = jobs_per_patient(RUN)
except FedcallError as error:
    # One line, without a traceback into the workflow, however quiet Snakemake is asked to be.
    print(f"fedcall: {shown(error, 4000)}", file=sys.stderr)
    sys.exit(error.exit_code)

CONFIG = RUN.config
STUDY = RUN.study.name
# Of the terms in a rehearsal, of the signed study at a site.
STUDY_DIGEST = RUN.study.digest
SITES = list(RUN.sites)
# Of a study that was closed early, those it has.
ROUNDS = range(1, RUN.rounds + 1)
RESULTS = f"results/{STUDY}"
COORDINATOR = "coordinator"

# Contigs beyond 512 Mb have indexes of another kind.
READS_INDEX, CALLS_INDEX = (".csi", ".csi") if RUN.needs_csi else (".bai", ".tbi")

NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"


wildcard_constraints:
    study=STUDY,
    site=NAME,
    patient=NAME,
    round="[1-9][0-9]*",
    percent="[1-9][0-9]?",
    shard="[1-9][0-9]*",
    shards="[1-9][0-9]*",
    genome="[0-9a-f]{12}",
    caller="final|likelihood|initial|bcftools|freebayes|gatk|deepvariant",


# Models that call the held-out patients beside the study's own, for comparison. Without public training the two are one,
# and the evaluation, which compares the final with the initial model, says so.
MODEL_BASELINES = ["likelihood", "initial"]
CALLERS = ["final", *MODEL_BASELINES, *CONFIG.callers]

# Regions beyond `shard_size` are worked on in shards (shards.smk), by so many jobs. One that has several works through
# them in turn: planning takes milliseconds a job, and 30 genomes have 18,600 shards.
SHARD_OPTIONS = f"--shard {{shard}}/{{shards}} --shard-size {CONFIG.shard_size}"
SHARDED = "|".join(patient for patient in SHARDS if SHARDS[patient] > 1) or "(?!)"
UNDIVIDED = "|".join(patient for patient in SHARDS if SHARDS[patient] == 1) or "(?!)"


def parts(template):
    """Return an input function: the files of all shards of a patient, in order."""

    def files(wildcards):
        total = SHARDS[wildcards.patient]
        return [
            template.format(**wildcards, shard=number, shards=total)
            for number in range(1, total + 1)
        ]

    return files
