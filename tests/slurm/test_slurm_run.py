"""The tiny study as jobs of a real Slurm, one training killed on the way: the same models and calls as on one machine.

The first run ends where the trainings of the last round are cancelled, just after the ledger charged them; the second
finishes the study.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fedcall.errors import FedcallError
from fedcall.privacy.ledger.ledger import Ledger
from one_node_slurm import one_node_slurm, reason_against
from rehearsal_workspace import ROOT, Workspace

pytestmark = pytest.mark.slow

SITES = ("north", "south")
ROUNDS = (1, 2)
IMPATIENT = Path(__file__).with_name("impatient_snakemake.py")
KEY_OWNERS = (*SITES, "coordinator")


@dataclass(frozen=True)
class ClusterRun:
    """The workspace after both runs, what they printed, and what Slurm and the ledgers said."""

    workspace: Workspace
    killed: str
    charged_when_killed: dict[str, list[tuple[str, int]]]
    finished: str
    jobs: list[list[str]]


@pytest.fixture(scope="module")
def cluster_run(rehearsal: Workspace, tmp_path_factory: pytest.TempPathFactory) -> ClusterRun:
    """Run the study of `rehearsal` on Slurm with the same keys, and through a killed training."""
    reason = reason_against()
    if reason:
        pytest.skip(f"no Slurm of our own: {reason}")
    workspace = Workspace(tmp_path_factory.mktemp("slurm") / "workspace")
    for name in ("config", "resources"):  # the reads too: simulating them again would show nothing
        shutil.copytree(rehearsal.path / name, workspace.path / name)
    for owner in KEY_OWNERS:  # keys, but not what they remember of the other run's ledger
        keys = f"private/{owner}/keys"
        shutil.copytree(rehearsal.path / keys, workspace.path / keys, ignore=shutil.ignore_patterns("ledger.*"))
    settings = workspace.path / "config/config.yaml"  # a job per site here, one for all there: the same bytes
    settings.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | {"train_together": False}))
    write_profile(workspace.path / "profiles/slurm")
    with one_node_slurm(tmp_path_factory.mktemp("daemons")):
        with running(workspace) as first:
            cancel_when_charged(workspace, first)
            killed, _ = first.communicate(timeout=1800)
        assert first.returncode == 1, killed[-6000:]
        charged = ledgers(workspace)
        with running(workspace) as second:
            finished, _ = second.communicate(timeout=1800)
        assert second.returncode == 0, finished[-6000:]
        jobs = squeue("--format=%P|%k|%T")
    return ClusterRun(workspace, killed, charged, finished, [job.split("|") for job in jobs])


def write_profile(folder: Path) -> None:
    """Write profiles/slurm as a site changes it: more jobs in a group, a partition of graphics cards, no long waits."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["latency-wait"] = 5
    profile["slurm-init-seconds-before-status-checks"] = 1
    profile["set-threads"] = {"normalise_alignments": 1}
    profile["set-resources"]["train_round"] |= {"slurm_partition": "gpu", "gpu": 1}
    profile["group-components"] = dict.fromkeys(profile["group-components"], 20)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))


@contextlib.contextmanager
def running(workspace: Workspace) -> Iterator[subprocess.Popen[str]]:
    """Start the workflow as a user of a cluster does; it is gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, IMPATIENT, "--snakefile", ROOT / "Snakefile", "--profile", "profiles/slurm"],
        cwd=workspace.path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def cancel_when_charged(workspace: Workspace, run: subprocess.Popen[str]) -> None:
    """Cancel the trainings of the last round as soon as a ledger has charged one."""
    deadline = time.monotonic() + 1800
    while not any(("reserve", ROUNDS[-1]) in rows for rows in ledgers(workspace).values()):
        assert run.poll() is None, run.communicate()[0][-6000:]
        assert time.monotonic() < deadline, "the last round was not charged in time"
        time.sleep(0.05)
    trainings = [line.split("|") for line in squeue("--states=RUNNING", "--format=%i|%k")]
    identities = [job for job, comment in trainings if "train_round" in comment]
    assert len(identities) == 1
    subprocess.run(["scancel", *identities], check=True)


def ledgers(workspace: Workspace) -> dict[str, list[tuple[str, int]]]:
    """Return kind and round of every row, by site."""
    found = {}
    for site in SITES:
        path = workspace.path / f"private/{site}/ledger.sqlite"
        # One that is not there yet, or only just being made, holds nothing.
        with contextlib.suppress(FedcallError), Ledger.open_to_read(path) as ledger:
            found[site] = [(row.kind, row.round) for row in ledger.rows()]
    return found


def squeue(*options: str) -> list[str]:
    """Return what Slurm knows of its jobs, also of those that ended, a line each."""
    states = [] if any(option.startswith("--states") for option in options) else ["--states=all"]
    command = ["squeue", "--noheader", *states, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_slurm__killed_training_is_charged_once(cluster_run):
    assert "train_round" in cluster_run.killed
    assert any(("reserve", 2) in rows for rows in cluster_run.charged_when_killed.values())
    for rows in ledgers(cluster_run.workspace).values():
        assert [round for kind, round in rows if kind == "reserve"] == list(ROUNDS)
        assert [round for kind, round in rows if kind == "release"] == list(ROUNDS)


def test_slurm__models_equal_those_of_one_machine(cluster_run, rehearsal):
    paths = [f"{site}/rounds/{round}/update.safetensors" for site in SITES for round in ROUNDS]
    for path in ("initial.safetensors", *paths, "final.safetensors"):
        ours, theirs = (run.path / "results/tiny" / path for run in (cluster_run.workspace, rehearsal))
        assert ours.read_bytes() == theirs.read_bytes(), path


def test_slurm__calls_equal_those_of_one_machine(cluster_run, rehearsal):
    calls = sorted(path.relative_to(rehearsal.path) for path in rehearsal.path.glob("results/tiny/*/calls/*.vcf.gz"))
    assert len(calls) == len(SITES)
    for path in calls:
        assert (cluster_run.workspace.path / path).read_bytes() == (rehearsal.path / path).read_bytes(), path


def test_slurm__training_runs_where_the_profile_says(cluster_run):
    partitions = {comment: partition for partition, comment, _ in cluster_run.jobs}
    assert {name for name, partition in partitions.items() if partition == "gpu"} == {
        f"rule_round-{round}_train_round" for round in ROUNDS
    }


def test_slurm__small_jobs_share_cluster_jobs(cluster_run):
    for comment in ("labels_prepare_patient", "pileup_prepare_training_patient"):
        assert sum(comment in job[1] for job in cluster_run.jobs) == 1


def test_slurm__network_is_used_where_snakemake_runs_only(cluster_run):
    jobs = " ".join(comment for _, comment, _ in cluster_run.jobs)
    assert "fetch" not in jobs
    assert "upload" not in jobs
