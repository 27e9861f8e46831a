"""Two hospitals, two key holders and a coordinator, each with a folder of its own; the hospitals run the workflow.

What docs/encrypted-sums.md ("In folders of their own") tells them to do.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from encrypted_consortium import HOLDERS, needs_openfhe
from hospitals import move_cohort, run_workflow, running, served, wait_for
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


def hold_ceremony(helpers: dict[str, Workspace], folder: Path) -> None:
    """Have the key holders make their joint key; they exchange a folder."""
    ceremony = ("--keys", "keys", "--ceremony", "pilot", "--exchange", folder)
    for helper in helpers.values():
        helper.fedcall("encryption", "keygen", *ceremony)
    everybody = [option for name in helpers for option in ("--holder", f"../coordinator/{name}.json")]
    for helper in helpers.values():
        helper.fedcall("encryption", "reveal", *ceremony, *everybody)


def test_encrypted__hospitals_run_the_workflow_and_holders_their_service(tmp_path):
    coordinator = Workspace(tmp_path / "coordinator")
    holders = {name: Workspace(tmp_path / name) for name in HOLDERS}
    hospitals = {site: Workspace(tmp_path / site) for site in SITES}
    for folder in (coordinator, *holders.values()):
        folder.path.mkdir()
    Workspace(tmp_path).fedcall(
        *("simulate", "--seed", 11, *(option for site in SITES for option in ("--site", f"{site}={PATIENTS}"))),
        *("--holdout", 0, "--public", 0, "--region-length", 4000, "--depth", 20, "--output", "cohort"),
    )
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "private/keys")
    for name, holder in holders.items():
        public = f"../coordinator/{name}.json"
        holder.fedcall("helper", "keygen", "--name", name, "--output", "keys", "--public", public)
    hold_ceremony(holders, tmp_path / "exchange")
    for site, hospital in hospitals.items():
        move_cohort(tmp_path / "cohort", hospital.path / "data", site)
        public = f"../coordinator/{site}.json"
        hospital.fedcall("site", "keygen", "--name", site, "--output", f"private/{site}/keys", "--public", public)
    (coordinator.path / "terms.yaml").write_text(yaml.safe_dump(TERMS))
    coordinator.fedcall("train-public", "--terms", "terms.yaml", "--output", "initial.safetensors")
    coordinator.fedcall(
        *("study", "new", "--terms", "terms.yaml", "--initial", "initial.safetensors", "--output", "full.yaml"),
        *(option for name in HOLDERS for option in ("--helper", f"{name}.json")),
        *("--coordinator", "private/keys/site.json", "--ceremony", "pilot", "--exchange", tmp_path / "exchange"),
        *(option for site in SITES for option in ("--site", f"{site}.json={PATIENTS}")),
    )
    coordinator.fedcall("study", "sign", "--study", "full.yaml", "--keys", "private/keys", "--output", "pilot.json")
    digest = json.loads(coordinator.fedcall("study", "check", "--study", "pilot.json", "--json"))["digest"]
    with served(coordinator, "state"), ExitStack() as stack, ThreadPoolExecutor(len(SITES)) as pool:
        wait_for(coordinator.path / "state/endpoint.json")
        address = json.loads((coordinator.path / "state/endpoint.json").read_text())["address"]
        for folder in (*holders.values(), *hospitals.values()):
            for name in ("pilot.json", "state/ca.crt", "encryption.shares"):
                shutil.copy(coordinator.path / name, folder.path)
        own = ("--study", "pilot.json", "--keys", "keys", "--state", "answers", "--aggregator", address)
        services = [
            stack.enter_context(running(one, "helper", "serve", *own, "--ca", "ca.crt")) for one in holders.values()
        ]
        for site, hospital in hospitals.items():
            config = {"study": "pilot.json", "approved_study": digest, "site": site, "aggregator": address}
            config |= {"ca": "ca.crt", "samples": "data/samples.tsv", "reference": "data/reference.fa"}
            (hospital.path / "config.yaml").write_text(yaml.safe_dump(config))
        list(pool.map(run_workflow, hospitals.values()))
        assert [service.wait(120) for service in services] == [0, 0]

    finals = {(hospital.path / "results/pilot/final.safetensors").read_bytes() for hospital in hospitals.values()}
    assert finals == {(coordinator.path / "state/rounds/2/global.safetensors").read_bytes()}
    assert finals != {(coordinator.path / "initial.safetensors").read_bytes()}
    for (site, hospital), other in zip(hospitals.items(), SITES[::-1], strict=True):
        shares = (hospital.path / "results/pilot/encryption.shares").read_bytes()
        assert shares == (coordinator.path / "encryption.shares").read_bytes()
        report = json.loads((hospital.path / f"results/pilot/{site}/privacy.json").read_text())
        (told,) = report["rounds"]
        assert (told["status"], f"Opened only as a sum with {other}" in told["sentence"]) == ("accepted", True)
    for name, holder in holders.items():
        files = ("--log", "../lakeside/results/pilot/lakeside/admission.jsonl", "--round", 1)
        (partial,) = (holder.path / "answers/partials").iterdir()
        given = ("--partial", partial, "--updates", coordinator.path / "state/rounds/1/accepted")
        said = holder.fedcall("encryption", "verify", "--study", "pilot.json", "--keys", "keys", *files, *given)
        assert f"'{name}' signed is one of the sum of 2 listed updates" in said
