"""Two hospitals, a helper and a coordinator, each with a folder and keys of its own: a masked study by its commands.

What docs/running-a-study.md ("Nobody sees a single update: a helper") tells them to do.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from example_patients import write_patient
from fedcall.weights import read_weights
from hospitals import running, wait_for
from rehearsal_workspace import Workspace

pytestmark = pytest.mark.slow

SITES = ("lakeside", "hillside")
PATIENTS = 3
ROUNDS = (1, 2)
TERMS = {
    "name": "pilot",
    "rounds": len(ROUNDS),
    "model": {"trainable": "head"},
    "privacy": {
        "contribution": "delta",
        "local_steps": 2,
        "steps_per_round": 1,
        "noise": "pooled",
        "noise_multiplier": 2.0,
        "sampling_rate": 0.5,
        "rows_per_unit": 8,
        "delta": 0.01,
        "max_epsilon": 20.0,
    },
}


def take_part(hospital: Workspace, site: str, address: str) -> None:
    """Go through all rounds as the workflow does; in the first, training is killed in spirit: its files are deleted."""
    way = ("--study", "study.json", "--site", site, "--keys", "keys", "--aggregator", address, "--ca", "ca.crt")
    patients = [f"examples/{site}-{number}.safetensors" for number in range(1, PATIENTS + 1)]
    for number in ROUNDS:
        folder = Path(f"rounds/{number}")
        (hospital.path / folder).mkdir(parents=True)
        hospital.fedcall("fetch", *way, "--round", number, "--output", folder / "global.safetensors")
        update, claim = folder / "update.safetensors", folder / "claim.json"
        train = [
            *("train-round", "--study", "study.json", "--site", site, "--round", number, "--keys", "keys"),
            *("--ledger", "ledger/ledger.sqlite", "--model", folder / "global.safetensors"),
            *("--update", update, "--claim", claim, *patients),
        ]
        hospital.fedcall(*train)
        made = [(hospital.path / path).read_bytes() for path in (update, claim)]
        if number == 1:
            (hospital.path / update).unlink()
            hospital.fedcall(*train)
            assert [(hospital.path / path).read_bytes() for path in (update, claim)] == made
        files = ("--update", update, "--claim", claim, "--receipt", folder / "receipt.json")
        hospital.fedcall("upload", *way, "--round", number, *files)
    hospital.fedcall("fetch", *way, "--round", len(ROUNDS) + 1, "--output", "final.safetensors")
    hospital.fedcall("fetch-log", *way, "--output", "admission.jsonl")
    hospital.fedcall(
        *("report", "privacy", "--study", "study.json", "--site", site, "--keys", "keys", "--rounds", "rounds"),
        *("--ledger", "ledger/ledger.sqlite", "--log", "admission.jsonl", "--html", "p.html", "--json", "p.json"),
    )


def test_two_hospitals_and_a_helper__in_folders_of_their_own(tmp_path):
    coordinator = Workspace(tmp_path / "coordinator")
    helper = Workspace(tmp_path / "notary")
    hospitals = {site: Workspace(tmp_path / site) for site in SITES}
    for folder in (coordinator, helper, *hospitals.values()):
        folder.path.mkdir()
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "keys")
    public = "../coordinator/notary.json"
    helper.fedcall("helper", "keygen", "--name", "notary", "--output", "keys", "--public", public)
    for site, hospital in hospitals.items():
        public = f"../coordinator/{site}.json"
        hospital.fedcall("site", "keygen", "--name", site, "--output", "keys", "--public", public)
        (hospital.path / "examples").mkdir()
        for number in range(1, PATIENTS + 1):
            write_patient(hospital.path / f"examples/{site}-{number}.safetensors", 10 * SITES.index(site) + number)
    (coordinator.path / "terms.yaml").write_text(
        yaml.safe_dump(TERMS | {"protection": {"mode": "masked", "minimum_sites": 2}})
    )
    coordinator.fedcall("train-public", "--terms", "terms.yaml", "--output", "initial.safetensors")
    coordinator.fedcall(
        *("study", "new", "--terms", "terms.yaml", "--initial", "initial.safetensors"),
        *("--helper", "notary.json", "--coordinator", "keys/site.json", "--output", "full.yaml"),
        *(option for site in SITES for option in ("--site", f"{site}.json={PATIENTS}")),
    )
    coordinator.fedcall("study", "sign", "--study", "full.yaml", "--keys", "keys", "--output", "study.json")
    serve = ("aggregator", "serve", "--study", "study.json", "--state", "state", "--keys", "keys")
    with running(coordinator, *serve, "--initial", "initial.safetensors"):
        wait_for(coordinator.path / "state/endpoint.json")
        for folder in (helper, *hospitals.values()):
            for name in ("study.json", "state/ca.crt"):
                (folder.path / Path(name).name).write_bytes((coordinator.path / name).read_bytes())
        address = json.loads((coordinator.path / "state/endpoint.json").read_text())["address"]
        own = ("--study", "study.json", "--keys", "keys", "--state", "answers")
        service = running(helper, "helper", "serve", *own, "--aggregator", address, "--ca", "ca.crt")
        with service as serving, ThreadPoolExecutor(len(SITES)) as pool:
            list(pool.map(lambda site: take_part(hospitals[site], site, address), SITES))
            assert serving.wait(60) == 0, (helper.path / "helper.log").read_text()

    finals = {(hospital.path / "final.safetensors").read_bytes() for hospital in hospitals.values()}
    assert len(finals) == 1
    initial, final = (
        read_weights(coordinator.path / name) for name in ("initial.safetensors", "state/rounds/3/global.safetensors")
    )
    assert initial.digest != final.digest
    for site, hospital in hospitals.items():
        report = json.loads((hospital.path / "p.json").read_text())
        rows = [
            (row["status"], f"Opened only as a sum with {other(site)}" in row["sentence"]) for row in report["rounds"]
        ]
        assert rows == [("accepted", True)] * len(ROUNDS)
        conditions = {one["statement"]: one["holds"] for one in report["light"]["conditions"]}
        assert any("was verified in 2 of 2 rounds" in statement and holds for statement, holds in conditions.items())
    told = json.loads(helper.fedcall("helper", "status", *own, "--json"))
    assert [(answer["round"], answer["sites"]) for answer in told["answers"]] == [
        (number, sorted(SITES)) for number in ROUNDS
    ]
    assert "the 2 answers" in helper.fedcall("helper", "verify", *own, "--log", "../lakeside/admission.jsonl")


def other(site: str) -> str:
    return next(name for name in SITES if name != site)
