"""Two hospitals, helpers and a coordinator, each with a folder and keys of its own: a study of sums by its commands.

What docs/running-a-study.md ("Nobody sees a single update: a helper") and docs/encrypted-sums.md tell them to do.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from encrypted_consortium import needs_openfhe
from example_patients import write_patient
from fedcall.weights import read_weights
from rehearsal_workspace import BIN, Workspace

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


@contextmanager
def running(workspace: Workspace, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service of fedcall's in a folder until the block ends."""
    with open(workspace.path / f"{command[0]}.log", "ab") as log:
        service = subprocess.Popen(
            [BIN / "fedcall", *map(str, command)], cwd=workspace.path, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield service
    finally:
        if service.poll() is None:
            service.send_signal(signal.SIGTERM)
        try:
            service.wait(30)
        finally:
            service.kill()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.1)


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


def hold_ceremony(helpers: dict[str, Workspace], folder: Path) -> None:
    """Have the key holders make their joint key; they exchange a folder."""
    ceremony = ("--keys", "keys", "--ceremony", "pilot", "--exchange", folder)
    for helper in helpers.values():
        helper.fedcall("encryption", "keygen", *ceremony)
    everybody = [option for name in helpers for option in ("--holder", f"../coordinator/{name}.json")]
    for helper in helpers.values():
        helper.fedcall("encryption", "reveal", *ceremony, *everybody)


@pytest.mark.parametrize(
    ("mode", "names"),
    [("masked", ("notary",)), pytest.param("encrypted", ("notary", "ethics"), marks=needs_openfhe)],
)
def test_two_hospitals_and_helpers__in_folders_of_their_own(tmp_path, mode, names):
    coordinator = Workspace(tmp_path / "coordinator")
    helpers = {name: Workspace(tmp_path / name) for name in names}
    hospitals = {site: Workspace(tmp_path / site) for site in SITES}
    for folder in (coordinator, *helpers.values(), *hospitals.values()):
        folder.path.mkdir()
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "keys")
    for name, helper in helpers.items():
        public = f"../coordinator/{name}.json"
        helper.fedcall("helper", "keygen", "--name", name, "--output", "keys", "--public", public)
    key: tuple[object, ...] = ()
    if mode == "encrypted":
        hold_ceremony(helpers, tmp_path / "exchange")
        key = ("--ceremony", "pilot", "--exchange", tmp_path / "exchange")
    for site, hospital in hospitals.items():
        public = f"../coordinator/{site}.json"
        hospital.fedcall("site", "keygen", "--name", site, "--output", "keys", "--public", public)
        (hospital.path / "examples").mkdir()
        for number in range(1, PATIENTS + 1):
            write_patient(hospital.path / f"examples/{site}-{number}.safetensors", 10 * SITES.index(site) + number)
    (coordinator.path / "terms.yaml").write_text(
        yaml.safe_dump(TERMS | {"protection": {"mode": mode, "minimum_sites": 2}})
    )
    coordinator.fedcall("train-public", "--terms", "terms.yaml", "--output", "initial.safetensors")
    coordinator.fedcall(
        *("study", "new", "--terms", "terms.yaml", "--initial", "initial.safetensors"),
        *(option for name in names for option in ("--helper", f"{name}.json")),
        *("--coordinator", "keys/site.json", "--output", "full.yaml", *key),
        *(option for site in SITES for option in ("--site", f"{site}.json={PATIENTS}")),
    )
    coordinator.fedcall("study", "sign", "--study", "full.yaml", "--keys", "keys", "--output", "study.json")
    serve = ("aggregator", "serve", "--study", "study.json", "--state", "state", "--keys", "keys")
    with running(coordinator, *serve, "--initial", "initial.safetensors"):
        wait_for(coordinator.path / "state/endpoint.json")
        for folder in (*helpers.values(), *hospitals.values()):
            for name in ("study.json", "state/ca.crt", *(("encryption.shares",) if key else ())):
                (folder.path / Path(name).name).write_bytes((coordinator.path / name).read_bytes())
        address = json.loads((coordinator.path / "state/endpoint.json").read_text())["address"]
        own = ("--study", "study.json", "--keys", "keys", "--state", "answers")
        with ExitStack() as stack, ThreadPoolExecutor(len(SITES)) as pool:
            services = [
                stack.enter_context(running(helper, "helper", "serve", *own, "--aggregator", address, "--ca", "ca.crt"))
                for helper in helpers.values()
            ]
            list(pool.map(lambda site: take_part(hospitals[site], site, address), SITES))
            for helper, service in zip(helpers.values(), services, strict=True):
                assert service.wait(60) == 0, (helper.path / "helper.log").read_text()

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
