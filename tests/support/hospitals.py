"""A coordinator and hospitals for tests, each a folder with keys of its own, and the aggregator as a service."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from rehearsal_workspace import BIN, STUDY, Workspace

PATIENTS = 3
# Two rounds cost 1.36 and three 1.76: with one round spent before, one round fits.
PRIVACY = STUDY["privacy"] | {"max_epsilon": 1.6}


def move_cohort(cohort: Path, folder: Path, owner: str) -> None:
    """Give a folder the files and the rows of one owner's patients."""
    folder.mkdir(parents=True)
    for path in [*cohort.glob("reference.fa*"), cohort / "regions.bed"]:
        shutil.copy(path, folder)
    for path in cohort.glob(f"{owner}-*"):
        path.rename(folder / path.name)
    header, *rows = (cohort / "samples.tsv").read_text().splitlines()
    mine = [row for row in rows if row.split("\t")[1] == owner]
    if owner != "public":  # a hospital's patients are private, simulated or not
        column = header.split("\t").index("private")
        cells = [row.split("\t") for row in mine]
        mine = ["\t".join([*row[:column], "yes", *row[column + 1 :]]) for row in cells]
    (folder / "samples.tsv").write_text("\n".join([header, *mine]) + "\n")


def agree(
    coordinator: Workspace,
    name: str,
    rounds: int,
    sites: tuple[str, ...],
    max_epsilon: float = PRIVACY["max_epsilon"],
    mode: str = "plain",
) -> str:
    """Make the signed study `name`.json, as a coordinator does; return its digest.

    Of a masked study helper.json is the helper's identity, of a sealed one policy.yaml is what the enclave must be.
    """
    terms = STUDY | {"name": name, "rounds": rounds, "privacy": PRIVACY | {"max_epsilon": max_epsilon}}
    if mode != "plain":
        terms |= {"protection": {"mode": mode, "minimum_sites": len(sites)}}
    if mode == "masked":  # one noisy sum a round is opened
        terms["privacy"] |= {"steps_per_round": 1}
    (coordinator.path / "terms.yaml").write_text(yaml.safe_dump(terms))
    more = {"plain": (), "masked": ("--helper", "helper.json"), "sealed": ("--evidence", "policy.yaml")}[mode]
    coordinator.fedcall(
        *("study", "new", "--terms", "terms.yaml", "--initial", "initial.safetensors", *more),
        *("--coordinator", "private/keys/site.json"),
        *(option for site in sites for option in ("--site", f"{site}.json={PATIENTS}")),
        *("--output", "full.yaml"),
    )
    coordinator.fedcall("study", "sign", "--study", "full.yaml", "--keys", "private/keys", "--output", f"{name}.json")
    return json.loads(coordinator.fedcall("study", "check", "--study", f"{name}.json", "--json"))["digest"]


def train_first_model(coordinator: Workspace) -> None:
    data = ("--reference", "data/reference.fa", "--regions", "data/regions.bed", "--sample", "public-001")
    truth = ("--truth", "data/public-001.truth.vcf.gz")
    coordinator.fedcall("normalise-labels", *truth, *data, "--output", "public-001.vcf.gz")
    coordinator.fedcall(
        *("pileup", "--alignments", "data/public-001.bam", "--truth", "public-001.vcf.gz", *data),
        *("--output", "public-001.safetensors"),
    )
    (coordinator.path / "terms.yaml").write_text(yaml.safe_dump(STUDY))
    coordinator.fedcall(
        *("train-public", "--terms", "terms.yaml", "--output", "initial.safetensors", "public-001.safetensors")
    )


@contextmanager
def served(
    coordinator: Workspace, state: str, study: str = "pilot.json", initial: str = "initial.safetensors"
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the aggregator as a service until the block ends; it must be up before the block begins."""
    command = [
        *("aggregator", "serve", "--study", study, "--state", coordinator.path / state),
        *("--keys", "private/keys", "--initial", initial, "--listen", "127.0.0.1:0"),
    ]
    log = coordinator.path / f"{state}.log"
    log.unlink(missing_ok=True)
    with running(coordinator, *command, log=log, seconds=300) as service:
        end = time.monotonic() + 600
        while not (coordinator.path / state / "endpoint.json").exists():
            assert service.poll() is None, log.read_text()
            assert time.monotonic() < end, "the aggregator did not come up"
            time.sleep(0.1)
        yield service


@contextmanager
def running(
    workspace: Workspace, *command: object, log: Path | None = None, seconds: float = 30
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service of fedcall's in a folder until the block ends, and then give it some seconds to end by itself."""
    with open(log or workspace.path / f"{command[0]}.log", "ab") as told:
        service = subprocess.Popen(
            [BIN / "fedcall", *map(str, command)], cwd=workspace.path, stdout=told, stderr=subprocess.STDOUT
        )
    try:
        yield service
    finally:
        if service.poll() is None:
            service.send_signal(signal.SIGTERM)
        try:
            service.wait(seconds)
        finally:
            service.kill()


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.1)


def run_workflow(hospital: Workspace) -> str:
    result = hospital.snakemake("--cores", "1", "--configfile", "config.yaml", timeout=1800)
    assert result.returncode == 0, result.stdout[-6000:]
    return result.stdout
