"""What runs again, and what it costs: the rows of the table in docs/reruns.md, in its order."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pysam
import pytest
import yaml

from rehearsal_workspace import BIN, ROOT, Workspace

pytestmark = pytest.mark.slow

SITES = ("north", "south")
ROUNDS = (1, 2)
RESULTS = Path("results/tiny")
LAST_UPDATE = RESULTS / "south/rounds/2/update.safetensors"
AFTER_CALLS = {"evaluate_patient", "evaluation_report"}
EXCHANGES = {"upload_update", "fetch_global", "fetch_final"}
AFTER_TRAINING = EXCHANGES | {"call_variants", "privacy_report", "privacy_report_of_study"} | AFTER_CALLS


@pytest.fixture
def finished(rehearsal, tmp_path) -> Workspace:
    """Return a copy of the rehearsed study, to change."""
    return rehearsal.copy(tmp_path / "copy")


def planned(workspace: Workspace, *options: object) -> set[str]:
    """Return the rules a dry run names; empty if there is nothing to be done."""
    result = workspace.snakemake("--dry-run", "--quiet", "rules", "reason", *options)
    return rules_in(result.stdout, result.returncode)


def rules_in(output: str, returncode: int) -> set[str]:
    assert returncode == 0, output[-4000:]
    if "Nothing to be done" in output:
        return set()
    table = output.split("Job stats:")[1].split("total")[0]
    return set(re.findall(r"^(\w+)\s+\d+\s*$", table, flags=re.MULTILINE)) - {"all"}


def releases(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.path / RESULTS
    names = ("update.safetensors", "claim.json")
    return {
        f"{site}/{r}/{name}": (folder / site / f"rounds/{r}/{name}").read_bytes()
        for site in SITES
        for r in ROUNDS
        for name in names
    }


def spent(workspace: Workspace) -> list[object]:
    commands = (("ledger", "show", "--ledger", f"private/{site}/ledger.sqlite", "--json") for site in SITES)
    return [json.loads(workspace.fedcall(*command)) for command in commands]


def run(workspace: Workspace, *options: object) -> str:
    result = workspace.snakemake(*options)
    assert result.returncode == 0, result.stdout[-6000:]
    return result.stdout


def empty(truth: Path) -> None:
    """Rewrite a truth set without any variant."""
    with pysam.VariantFile(str(truth)) as source:
        header = str(source.header)
    plain = truth.with_suffix("")
    plain.write_text(header)
    pysam.tabix_compress(str(plain), str(truth), force=True)
    pysam.tabix_index(str(truth), preset="vcf", force=True)
    plain.unlink()


def test_reruns__touched_input_is_the_same_input(finished):
    os.utime(finished.path / "resources/cohort/north-h01.bam")
    assert planned(finished) == set()
    # A file too large to be compared by checksum counts as changed.
    assert "prepare_patient" in planned(finished, "--max-checksum-file-size", "1KB")


def test_reruns__settled_rounds_do_not_depend_on_what_the_patients_files_are_now(finished):
    empty(finished.path / "resources/cohort/north-001.truth.vcf.gz")
    assert planned(finished) == set()
    found = planned(finished, "--forceall")
    assert {"prepare_training_patient", "prepare_patient", "train_round"} | AFTER_TRAINING <= found


def test_reruns__changed_input_of_a_charged_round_is_refused(finished):
    ledgers = spent(finished)
    empty(finished.path / "resources/cohort/north-001.truth.vcf.gz")
    result = finished.snakemake("--", RESULTS / "north/rounds/1/update.safetensors")
    assert result.returncode == 1
    assert "was charged for other inputs" in result.stdout
    assert spent(finished) == ledgers


@pytest.mark.parametrize(
    ("key", "value", "again", "spared"),
    [
        ("device", "auto", {"train_round"}, {"prepare_training_patient", "train_public", "agree_study"}),
        ("public_thinning", [50], set(), {"extract_thinned_pileup", "train_public", "agree_study"}),
    ],
)
def test_reruns__changed_configuration(finished, key, value, again, spared):
    """The first model, the agreement and settled rounds stand; a round that is not over takes the configuration."""
    path = finished.path / "config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value}))
    assert planned(finished) == set()
    (finished.path / RESULTS / "south/rounds/2/receipt.json").unlink()
    found = planned(finished)
    assert again | EXCHANGES <= found | {"fetch_global"}
    assert not spared & found


def test_reruns__local_parameters_are_for_rounds_to_come(finished):
    """Calls use them at once; rounds that were charged stand as they are."""
    path = finished.path / "config/config.yaml"
    local = {"local": {"base_qualities": "recalibrated"}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | local))
    found = planned(finished)
    assert {"recalibrate_qualities", "call_variants", "privacy_report"} <= found
    assert not found & {
        "compare_people",
        "train_public",
        "agree_study",
        "extract_pileup",
        "prepare_training_patient",
        "train_round",
        "upload_update",
    }


def test_reruns__changed_study_is_another_folder(finished):
    path = finished.path / "config/study.yaml"
    terms = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(terms | {"rounds": 3}))
    refused = finished.snakemake("--dry-run")
    assert refused.returncode == 2
    assert "study 'tiny' has begun with other terms (rounds;" in refused.stdout
    path.write_text(yaml.safe_dump(terms | {"rounds": 3, "name": "tiny-2"}))
    assert {"train_round", "agree_study", "prepare_training_patient"} <= planned(finished)


def test_reruns__another_version_of_the_package_runs_all_again(finished):
    start = "import sys, fedcall; fedcall.__version__ = '99.0'; from snakemake.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, "--snakefile", ROOT / "Snakefile", "--cores", "2", "--dry-run"]
    result = subprocess.run([*map(str, command)], cwd=finished.path, capture_output=True, text=True)
    found = rules_in(result.stdout + result.stderr, result.returncode)
    settled = {"train_public", "agree_study", "fetch_global", "train_round", "upload_update", "simulate_cohort"}
    of_training = {"prepare_training_patient", "compare_people", "create_keys"}
    assert found - {"simulate_cohort"} == planned(finished, "--forceall") - settled - of_training


@pytest.mark.parametrize("file", ["north/examples/north-001.safetensors", "north/alignments/north-001.bam"])
def test_reruns__deleted_intermediate_is_not_missed(finished, file):
    (finished.path / RESULTS / file).unlink()
    assert planned(finished) == set()


def test_reruns__deleted_calls_are_made_again(finished):
    (finished.path / RESULTS / "north/calls/north-h01.vcf.gz").unlink()
    found = planned(finished)
    assert {"call_variants"} | AFTER_CALLS <= found
    assert not {"prepare_training_patient", "prepare_patient", "train_round", "upload_update"} & found


@pytest.mark.parametrize(
    ("name", "rule"),
    [("update.safetensors", "train_round"), ("claim.json", "train_round"), ("receipt.json", "upload_update")],
)
def test_reruns__deleted_release_of_an_earlier_round_is_missed(finished, name, rule):
    # No job asks for it: the report and the rounds after it are made.
    (finished.path / RESULTS / "south/rounds/1" / name).unlink()
    assert rule in planned(finished)


def test_reruns__killed_run_goes_on_and_charges_nothing_twice(finished):
    before, ledgers = releases(finished), spent(finished)
    (finished.path / LAST_UPDATE).unlink()
    log = finished.path / "logs/train_round/tiny.all.2.log"
    log.unlink()
    command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", "--", LAST_UPDATE]
    killed = subprocess.Popen(
        [*map(str, command)],
        cwd=finished.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not log.exists() and killed.poll() is None:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (finished.path / LAST_UPDATE).exists()
    locked = finished.snakemake()
    assert locked.returncode == 1
    assert "--unlock" in locked.stdout
    run(finished, "--unlock")
    run(finished, "--", LAST_UPDATE)
    assert releases(finished) == before
    assert spent(finished) == ledgers


def test_reruns__forced_releases_come_back_from_the_ledger(finished):
    before, ledgers = releases(finished), spent(finished)
    run(finished, "--forceall", "--", RESULTS / "north/rounds/1/update.safetensors")
    assert releases(finished) == before
    assert spent(finished) == ledgers


def test_reruns__another_folder_with_the_same_keys_and_ledgers(rehearsal, tmp_path):
    before, ledgers = releases(rehearsal), spent(rehearsal)
    other = Workspace(tmp_path / "other")
    for folder in ("config", "private"):
        shutil.copytree(rehearsal.path / folder, other.path / folder)
    run(other, "--", *(RESULTS / site / "rounds/2/receipt.json" for site in SITES))
    assert releases(other) == before
    assert spent(other) == ledgers
