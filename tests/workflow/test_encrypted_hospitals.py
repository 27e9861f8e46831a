"""Two hospitals, two key holders and a coordinator, each with a folder of its own: an encrypted round, keys to reports.

What docs/encrypted-sums.md ("In folders of their own") tells them to do. One hospital runs the workflow, the other the
commands that the workflow runs; the aggregator and the holders are services of their own. Commands that only make or
read files run in this process, where each saves the second and a half that a new one spends on imports.
"""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import yaml

from encrypted_consortium import HOLDERS, needs_openfhe
from example_patients import write_patient
from hospitals import move_cohort, run_workflow, running, served
from in_process import run_in_process
from rehearsal_workspace import Workspace

pytestmark = [pytest.mark.slow, needs_openfhe]

SITES = ("lakeside", "hillside")
PATIENTS = 2
TERMS = {
    "name": "pilot",
    "rounds": 1,
    "model": {"trainable": "head"},
    "protection": {"mode": "encrypted", "minimum_sites": 2},
    "privacy": {
        **{"contribution": "delta", "local_steps": 2, "steps_per_round": 1, "noise": "pooled"},
        **{"noise_multiplier": 2.0, "sampling_rate": 0.5, "rows_per_unit": 8, "delta": 0.01, "max_epsilon": 20.0},
    },
}

Run = Callable[..., str]
"""Runs a command of fedcall that must succeed, in a folder and in this process; returns what it prints."""


@pytest.fixture
def run(monkeypatch, capfd) -> Run:
    # Not capsys: Snakemake, forked from this process, hands its output to jobs, and capsys' has no descriptor.
    def run(folder: Workspace, *arguments: object) -> str:
        monkeypatch.chdir(folder.path)
        code, out, err = run_in_process(monkeypatch, capfd, *arguments)
        assert code == 0, err
        return out

    return run


def hold_ceremony(run: Run, helpers: dict[str, Workspace]) -> tuple[object, ...]:
    """Have the key holders make their joint key; they exchange a folder. Return the options that name it."""
    ceremony = ("--ceremony", "pilot", "--exchange", "../exchange")
    for helper in helpers.values():
        run(helper, "encryption", "keygen", "--keys", "keys", *ceremony)
    everybody = [option for name in helpers for option in ("--holder", f"../coordinator/{name}.json")]
    for helper in helpers.values():
        run(helper, "encryption", "reveal", "--keys", "keys", *ceremony, *everybody)
    return ceremony


def take_part(run: Run, hospital: Workspace, site: str, address: str) -> None:
    """Do by commands what the workflow does, with patients whose examples were made before."""
    way = ("--study", "pilot.json", "--site", site, "--keys", f"private/{site}/keys")
    there = ("--aggregator", address, "--ca", "ca.crt")
    run(hospital, "fetch", *way, *there, "--round", 1, "--output", "rounds/1/global.safetensors")
    files = ("--update", "rounds/1/update.safetensors", "--claim", "rounds/1/claim.json")
    ledger, examples = ("--ledger", "ledger.sqlite"), [f"{number}.safetensors" for number in range(PATIENTS)]
    run(
        hospital,
        "train-round",
        *way,
        "--round",
        1,
        *ledger,
        "--model",
        "rounds/1/global.safetensors",
        *files,
        *examples,
    )
    run(hospital, "upload", *way, *there, "--round", 1, *files, "--receipt", "rounds/1/receipt.json")
    folder = f"results/pilot/{site}"
    run(hospital, "fetch", *way, *there, "--round", 2, "--output", "results/pilot/final.safetensors")
    run(hospital, "fetch-log", *way, *there, "--output", f"{folder}/admission.jsonl")
    told = ("--html", f"{folder}/privacy.html", "--json", f"{folder}/privacy.json")
    run(hospital, "report", "privacy", *way, "--rounds", "rounds", *ledger, "--log", f"{folder}/admission.jsonl", *told)


def test_encrypted__a_hospital_runs_the_workflow_another_its_commands_and_holders_their_service(tmp_path, run):
    coordinator = Workspace(tmp_path / "coordinator")
    holders = {name: Workspace(tmp_path / name) for name in HOLDERS}
    hospitals = {site: Workspace(tmp_path / site) for site in SITES}
    lakeside, hillside = hospitals.values()
    for folder in (coordinator, *holders.values(), *hospitals.values()):
        folder.path.mkdir()
    simulated = ("--holdout", 0, "--public", 0, "--region-length", 4000, "--depth", 20, "--output", "../cohort")
    run(coordinator, "simulate", "--seed", 11, "--site", f"lakeside={PATIENTS}", *simulated)
    move_cohort(tmp_path / "cohort", lakeside.path / "data", "lakeside")
    for number in range(PATIENTS):
        write_patient(hillside.path / f"{number}.safetensors", number)
    run(coordinator, "site", "keygen", "--name", "coordinator", "--output", "private/keys")
    for name, holder in holders.items():
        public = f"../coordinator/{name}.json"
        run(holder, "helper", "keygen", "--name", name, "--output", "keys", "--public", public)
    ceremony = hold_ceremony(run, holders)
    for site, hospital in hospitals.items():
        public = f"../coordinator/{site}.json"
        run(hospital, "site", "keygen", "--name", site, "--output", f"private/{site}/keys", "--public", public)
    (coordinator.path / "terms.yaml").write_text(yaml.safe_dump(TERMS))
    run(coordinator, "train-public", "--terms", "terms.yaml", "--output", "initial.safetensors")
    run(
        coordinator,
        *("study", "new", "--terms", "terms.yaml", "--initial", "initial.safetensors", "--output", "full.yaml"),
        *(option for name in HOLDERS for option in ("--helper", f"{name}.json")),
        *("--coordinator", "private/keys/site.json", *ceremony),
        *(option for site in SITES for option in ("--site", f"{site}.json={PATIENTS}")),
    )
    run(coordinator, "study", "sign", "--study", "full.yaml", "--keys", "private/keys", "--output", "pilot.json")
    digest = json.loads(run(coordinator, "study", "check", "--study", "pilot.json", "--json"))["digest"]
    with served(coordinator, "state"), ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        address = json.loads((coordinator.path / "state/endpoint.json").read_text())["address"]
        for folder in (*holders.values(), *hospitals.values()):
            for name in ("pilot.json", "state/ca.crt", "encryption.shares"):
                shutil.copy(coordinator.path / name, folder.path)
        own = ("--study", "pilot.json", "--keys", "keys", "--state", "answers", "--aggregator", address)
        services = [
            stack.enter_context(running(one, "helper", "serve", *own, "--ca", "ca.crt")) for one in holders.values()
        ]
        config = {"study": "pilot.json", "approved_study": digest, "site": "lakeside", "aggregator": address}
        config |= {"ca": "ca.crt", "samples": "data/samples.tsv", "reference": "data/reference.fa"}
        (lakeside.path / "config.yaml").write_text(yaml.safe_dump(config))
        ran = pool.submit(run_workflow, lakeside)
        take_part(run, hillside, "hillside", address)
        ran.result()
        assert [service.wait(120) for service in services] == [0, 0]

    finals = {(hospital.path / "results/pilot/final.safetensors").read_bytes() for hospital in hospitals.values()}
    assert finals == {(coordinator.path / "state/rounds/2/global.safetensors").read_bytes()}
    assert finals != {(coordinator.path / "initial.safetensors").read_bytes()}
    shares = (lakeside.path / "results/pilot/encryption.shares").read_bytes()
    assert shares == (coordinator.path / "encryption.shares").read_bytes()
    for (site, hospital), other in zip(hospitals.items(), SITES[::-1], strict=True):
        report = json.loads((hospital.path / f"results/pilot/{site}/privacy.json").read_text())
        (told,) = report["rounds"]
        assert (told["status"], f"Opened only as a sum with {other}" in told["sentence"]) == ("accepted", True)
    for name, holder in holders.items():
        files = ("--log", "../lakeside/results/pilot/lakeside/admission.jsonl", "--round", 1)
        (partial,) = (holder.path / "answers/partials").iterdir()
        given = ("--partial", partial, "--updates", coordinator.path / "state/rounds/1/accepted")
        said = run(holder, "encryption", "verify", "--study", "pilot.json", "--keys", "keys", *files, *given)
        assert f"'{name}' signed is one of the sum of 2 listed updates" in said
