"""How long Snakemake plans a large study: no job runs, no file is read but the configuration."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel

from fedcall.errors import FedcallError


@dataclass(frozen=True)
class PlannedStudy:
    """A study to plan: training patients only, each site with as many."""

    name: str
    sites: int
    rounds: int
    patients: int = 1  # per site
    shards: int = 1  # of a patient's regions


PLANS = (
    PlannedStudy("many sites", sites=50, rounds=100),
    PlannedStudy("many rounds", sites=3, rounds=1000),
    # 3.1 Gb in shards of 5 Mb.
    PlannedStudy("a genome", sites=2, rounds=2, patients=15, shards=620),
)
SHARD_SIZE = 10_000  # the smallest; only the number of shards counts


class DagBenchmark(BaseModel):
    """Processor seconds to plan one study, the start of Snakemake included."""

    name: str
    sites: int
    rounds: int
    patients: int  # of all sites together
    shards: int  # per patient
    jobs: int
    plan_seconds: float  # `--dry-run --quiet`: whether it can be done
    list_seconds: float  # `--dry-run`: every job with its files, too


def benchmark_dag(snakefile: Path) -> list[DagBenchmark]:
    """Plan each study in a folder of its own.

    Raises
    ------
    FedcallError
        If there is no such Snakefile, or Snakemake fails; with the last line it said.
    """
    if not snakefile.is_file():
        raise FedcallError(f"{snakefile}: no such Snakefile; start this in a checkout of fedcall, or name one")
    results = []
    for plan in PLANS:
        with tempfile.TemporaryDirectory(prefix="fedcall-dag-") as name:
            folder = Path(name)
            _configure(folder, plan)
            planned, _ = _plan(snakefile.resolve(), folder, "--quiet")
            listed, output = _plan(snakefile.resolve(), folder)
        jobs = max(int(line.split()[-1]) for line in output.splitlines() if line.startswith("total "))
        results.append(
            DagBenchmark(
                name=plan.name,
                sites=plan.sites,
                rounds=plan.rounds,
                patients=plan.sites * plan.patients,
                shards=plan.shards,
                jobs=jobs,
                plan_seconds=planned,
                list_seconds=listed,
            )
        )
    return results


def as_text(results: list[DagBenchmark]) -> str:
    """Return the results as a table of at most 80 columns."""
    rows = [f"{'study':<12} {'sites':>6} {'rounds':>7} {'shards':>7} {'jobs':>8} {'plan s':>9} {'list s':>9}"]
    rows += [
        f"{r.name:<12} {r.sites:>6} {r.rounds:>7} {r.shards:>7} {r.jobs:>8,} {r.plan_seconds:>9.1f}"
        f" {r.list_seconds:>9.1f}"
        for r in results
    ]
    return "\n".join(rows)


def _configure(folder: Path, plan: PlannedStudy) -> None:
    sites = {f"site{number}": plan.patients for number in range(1, plan.sites + 1)}
    cohort = {"sites": sites, "holdout": 0, "public": 0, "region_length": plan.shards * SHARD_SIZE}
    study = {"name": "plan", "rounds": plan.rounds, "privacy": {"delta": 1e-3}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"study": "study.yaml", "cohort": cohort, "shard_size": SHARD_SIZE})
    )


def _plan(snakefile: Path, folder: Path, *options: str) -> tuple[float, str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--configfile", "config.yaml"]
    before = os.times()
    run = subprocess.run(
        [*command, "--dry-run", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    after = os.times()
    # Processor time: planning keeps one core busy, and what else a machine does would only blur the clock's time.
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    if run.returncode:
        last = (run.stdout.strip().splitlines() or ["nothing said"])[-1]
        raise FedcallError(f"{snakefile}: Snakemake does not plan: {last}")
    return seconds, run.stdout
