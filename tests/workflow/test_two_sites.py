"""Two hospitals and a coordinator, each with a folder and keys of its own, through an aggregator that is a service.

The hospitals run the workflow at the same time. One of them has spent budget in an earlier study, so only its first
round fits.
"""

import gzip
import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hospitals import PATIENTS, agree, move_cohort, run_workflow, served, train_first_model
from rehearsal_workspace import Workspace

pytestmark = pytest.mark.slow

SITES = ("lakeside", "hillside")
ROUNDS = (1, 2)


@dataclass(frozen=True)
class Consortium:
    """The folders of all, and the state of the aggregator that serves while the tests run."""

    coordinator: Workspace
    hospitals: dict[str, Workspace]

    def status(self) -> dict:
        return json.loads(self.coordinator.fedcall("aggregator", "status", "--state", "state", "--json"))

    def document(self, site: str, number: int, name: str) -> dict:
        path = self.hospitals[site].path / f"results/pilot/{site}/rounds/{number}/{name}.json"
        return json.loads(path.read_text())["body"]


def spend_a_round_elsewhere(hospital: Workspace, site: str, coordinator: Workspace) -> None:
    """Charge the ledger of a hospital with one round of an earlier study."""
    agree(coordinator, "earlier", 1, (site,))
    examples = [f"earlier/{site}-{number:03d}.safetensors" for number in range(1, PATIENTS + 1)]
    for path in examples:
        alignments = f"data/{Path(path).stem}.bam"
        hospital.fedcall("pileup", "--alignments", alignments, "--reference", "data/reference.fa", "--output", path)
    hospital.fedcall(
        *("train-round", "--study", coordinator.path / "earlier.json", "--site", site, "--round", 1),
        *("--keys", f"private/{site}/keys", "--ledger", f"private/{site}/ledger.sqlite"),
        *("--model", coordinator.path / "initial.safetensors"),
        *("--update", "earlier/update.safetensors", "--claim", "earlier/claim.json", *examples),
    )


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Yield the folders after both hospitals ran the workflow to its end; the aggregator still serves."""
    root = tmp_path_factory.mktemp("consortium")
    coordinator = Workspace(root / "coordinator")
    hospitals = {site: Workspace(root / site) for site in SITES}
    Workspace(root).fedcall(
        *("simulate", "--seed", 11, *(option for site in SITES for option in ("--site", f"{site}={PATIENTS}"))),
        *("--holdout", 1, "--public", 1, "--region-length", 6000, "--depth", 20, "--output", "cohort"),
    )
    move_cohort(root / "cohort", coordinator.path / "data", "public")
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "private/keys")
    for site, hospital in hospitals.items():
        move_cohort(root / "cohort", hospital.path / "data", site)
        hospital.fedcall("site", "keygen", "--name", site, "--output", f"private/{site}/keys")
        shutil.copy(hospital.path / f"private/{site}/keys/site.json", coordinator.path / f"{site}.json")
    train_first_model(coordinator)
    spend_a_round_elsewhere(hospitals["lakeside"], "lakeside", coordinator)
    digest = agree(coordinator, "pilot", len(ROUNDS), SITES)
    with served(coordinator, "state"):
        together = Consortium(coordinator, hospitals)
        for site, hospital in hospitals.items():
            for path in ("pilot.json", "state/ca.crt"):
                shutil.copy(coordinator.path / path, hospital.path)
            config = {
                "study": "pilot.json",
                "approved_study": digest,
                "site": site,
                "aggregator": together.status()["address"],
                "ca": "ca.crt",
                "samples": "data/samples.tsv",
                "reference": "data/reference.fa",
            }
            (hospital.path / "config.yaml").write_text(yaml.safe_dump(config))
        with ThreadPoolExecutor(len(SITES)) as pool:
            list(pool.map(run_workflow, hospitals.values()))
        yield together


def test_two_sites__the_models_are_the_same_at_both(consortium):
    models = ("initial", "final", "lakeside/rounds/2/global")
    found = {
        name: {
            (hospital.path / "results/pilot" / f"{name.replace('lakeside', site)}.safetensors").read_bytes()
            for site, hospital in consortium.hospitals.items()
        }
        for name in models
    }
    assert {name: len(contents) for name, contents in found.items()} == dict.fromkeys(models, 1)
    assert len(set.union(*found.values())) == 3


def test_two_sites__people_who_spent_their_budget_elsewhere_are_left_out_silently(consortium):
    """Nothing that leaves lakeside tells that another study has spent what its people had (individual filter)."""
    claims = {site: [consortium.document(site, number, "claim")["outcome"] for number in ROUNDS] for site in SITES}
    receipts = {site: [consortium.document(site, number, "receipt")["status"] for number in ROUNDS] for site in SITES}
    assert claims == {site: ["update", "update"] for site in SITES}
    assert receipts == {site: ["accepted", "accepted"] for site in SITES}
    sizes = {
        site: [
            (hospital.path / f"results/pilot/{site}/rounds/{number}/update.safetensors").stat().st_size
            for number in ROUNDS
        ]
        for site, hospital in consortium.hospitals.items()
    }
    assert sizes["lakeside"] == sizes["hillside"]


def test_two_sites__calls_and_reports_at_each(consortium):
    for site, hospital in consortium.hospitals.items():
        folder = hospital.path / "results/pilot"
        calls = gzip.decompress((folder / f"{site}/calls/{site}-h01.vcf.gz").read_bytes())
        assert calls.startswith(b"##fileformat=VCF")
        for report in ("evaluation", f"{site}/privacy"):
            assert "</html>" in (folder / f"{report}.html").read_text()
            json.loads((folder / f"{report}.json").read_text())


def test_two_sites__no_patient_of_one_is_known_to_another(consortium):
    def tells(folder: Path, text: str) -> list[str]:
        return [
            str(path)
            for path in folder.rglob("*")
            if text in path.name or (path.is_file() and text.encode() in path.read_bytes())
        ]

    lakeside, hillside = (consortium.hospitals[site].path for site in SITES)
    assert tells(lakeside / "results", "lakeside-0")
    for folder, stranger in ((lakeside, "hillside"), (hillside, "lakeside")):
        assert tells(folder, f"{stranger}-0") == tells(folder, f"{stranger}-h") == []
    for site in SITES:
        assert tells(consortium.coordinator.path, f"{site}-0") == []


def test_two_sites__each_has_the_log_of_what_was_decided_and_only_digests_of_the_other(consortium):
    for site, hospital in consortium.hospitals.items():
        path = hospital.path / f"results/pilot/{site}/admission.jsonl"
        entries = [json.loads(line)["entry"] for line in path.read_text().splitlines()]
        assert [entry["round"] for entry in entries if entry["kind"] == "opened"] == [1, 2, 3]
        assert [entry["site"] for entry in entries if entry["kind"] == "decided"] == [site, site]
        assert sum(entry["kind"] == "hidden" for entry in entries) >= 2


def test_two_sites__second_run_does_nothing(consortium):
    assert "Nothing to be done" in run_workflow(consortium.hospitals["lakeside"])


def test_two_sites__deleted_answers_come_back_and_cost_nothing(consortium):
    names = ("rounds/2/update.safetensors", "rounds/2/claim.json", "rounds/2/receipt.json", "../final.safetensors")

    def answers() -> list[bytes]:
        folders = [hospital.path / "results/pilot" / site for site, hospital in consortium.hospitals.items()]
        return [(folder / name).read_bytes() for folder in folders for name in names]

    def ledgers() -> list[str]:
        return [
            hospital.fedcall("ledger", "show", "--ledger", f"private/{site}/ledger.sqlite", "--json")
            for site, hospital in consortium.hospitals.items()
        ]

    before, spent = answers(), ledgers()
    for site, hospital in consortium.hospitals.items():
        (hospital.path / "results/pilot" / site / names[0]).unlink()
    with ThreadPoolExecutor(len(SITES)) as pool:
        list(pool.map(run_workflow, consortium.hospitals.values()))
    assert answers() == before
    assert ledgers() == spent


def test_aggregator_status__of_a_finished_study(consortium):
    status = consortium.status()
    assert (status["done"], status["alive"]) == (True, True)
    assert {site["site"]: (site["accepted_rounds"], site["refusals"]) for site in status["sites"]} == {
        "lakeside": (2, 0),
        "hillside": (2, 0),
    }
    refused = json.loads(consortium.coordinator.fedcall("quarantine", "list", "--state", "state", "--json"))
    assert refused == {"quarantined_sites": [], "refused": [], "interventions": []}


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_aggregator_serve__ends_on_sigterm_with_all_its_processes(consortium):
    def processes() -> list[str]:
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        state = str(consortium.coordinator.path / "second")
        return [line.replace(b"\0", b" ").decode() for line in lines if state.encode() in line]

    with served(consortium.coordinator, "second") as service:
        assert processes()
        service.send_signal(signal.SIGTERM)
        assert service.wait(300) == 0
        assert not processes()
    assert not (consortium.coordinator.path / "second/endpoint.json").exists()
