"""A study's life at one hospital: a patient withdraws and another comes between rounds, the folder moves, and so on."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fedcall.weights import read_weights
from hospitals import PATIENTS, agree, move_cohort, served, train_first_model
from rehearsal_workspace import Workspace

pytestmark = pytest.mark.slow

RESULTS = Path("results/pilot/lakeside")
SHEET = "data/samples.tsv"


@dataclass
class Hospital:
    """The hospital, whose folder may move."""

    coordinator: Workspace
    here: Workspace
    config: str = "config.yaml"

    def run(self, *targets: object, code: int = 0) -> str:
        targets = ("--", *targets) if targets else ()
        result = self.here.snakemake("--cores", "1", "--configfile", self.config, *targets)
        assert result.returncode == code, result.stdout[-6000:]
        return result.stdout

    def rows(self) -> list[str]:
        return (self.here.path / SHEET).read_text().splitlines()

    def write_rows(self, *rows: str) -> None:
        (self.here.path / SHEET).write_text("\n".join(rows) + "\n")

    def files_of(self, patient: str) -> list[str]:
        """Return files of this folder that hold the name, in their own name or content; not the hospital's own."""
        folders = ("results", "logs", "benchmarks", "private")
        files = [path for folder in folders for path in (self.here.path / folder).rglob("*") if path.is_file()]
        return [
            str(path.relative_to(self.here.path))
            for path in files
            if patient in path.name or patient.encode() in path.read_bytes()
        ]

    def releases(self, number: int) -> dict[str, tuple[bytes, int]]:
        folder = self.here.path / RESULTS / f"rounds/{number}"
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}

    def ledger(self) -> dict:
        return json.loads(self.here.fedcall("ledger", "show", "--ledger", "private/lakeside/ledger.sqlite", "--json"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Yield a hospital after the first of two rounds, trained on two of its three declared patients."""
    root = tmp_path_factory.mktemp("life")
    coordinator, here = Workspace(root / "coordinator"), Workspace(root / "lakeside")
    Workspace(root).fedcall(
        *("simulate", "--seed", 11, "--site", f"lakeside={PATIENTS}", "--holdout", 1, "--public", 1),
        *("--region-length", 6000, "--depth", 20, "--output", "cohort"),
    )
    move_cohort(root / "cohort", coordinator.path / "data", "public")
    move_cohort(root / "cohort", here.path / "data", "lakeside")
    coordinator.fedcall("site", "keygen", "--name", "coordinator", "--output", "private/keys")
    here.fedcall("site", "keygen", "--name", "lakeside", "--output", "private/lakeside/keys")
    shutil.copy(here.path / "private/lakeside/keys/site.json", coordinator.path / "lakeside.json")
    train_first_model(coordinator)
    digest = agree(coordinator, "pilot", 2, ("lakeside",))
    with served(coordinator, "state"):
        status = json.loads(coordinator.fedcall("aggregator", "status", "--state", "state", "--json"))
        for path in ("pilot.json", "state/ca.crt"):
            shutil.copy(coordinator.path / path, here.path)
        config = {
            "study": "pilot.json",
            "approved_study": digest,
            "site": "lakeside",
            "aggregator": status["address"],
            "ca": "ca.crt",
            "samples": SHEET,
            "reference": "data/reference.fa",
        }
        (here.path / "config.yaml").write_text(yaml.safe_dump(config))
        found = Hospital(coordinator, here)
        header, first, second, third, held_out = found.rows()
        found.write_rows(header, first, second, held_out)
        found.run(RESULTS / "rounds/1/receipt.json")
        found.write_rows(header, first, second, third, held_out)
        yield found


def test_study_life__withdrawal_a_new_patient_and_another_machine_between_rounds(hospital, tmp_path_factory):
    settled = hospital.releases(1)
    done = hospital.here.fedcall("patient", "withdraw", "lakeside-001", "--configuration", "config.yaml")
    assert "contributes to nothing from now on" in done
    assert "1 rounds of study pilot" in done
    record = "private/lakeside/withdrawals/lakeside-001"
    assert set(hospital.files_of("lakeside-001")) <= {f"{record}.json", f"{record}.txt"}
    # The row may go, or stay; here it goes. The third patient is new, within the declared number.
    hospital.write_rows(*(row for row in hospital.rows() if not row.startswith("lakeside-001\t")))
    moved = tmp_path_factory.mktemp("other-machine") / "lakeside"
    shutil.move(hospital.here.path, moved)
    hospital.here = Workspace(moved)
    output = hospital.run()
    assert "Round 1" not in output
    assert hospital.releases(1) == settled
    assert (hospital.here.path / "results/pilot/final.safetensors").is_file()
    assert not (hospital.here.path / RESULTS / "examples/lakeside-001.safetensors").exists()
    assert (hospital.here.path / RESULTS / "examples/lakeside-003.safetensors").exists()
    groups = {(one["patients"], one["releases"]) for one in hospital.ledger()["exposures"]}
    assert groups == {(1, 2), (2, 1)}, "the second patient twice; who withdrew and who came later once"
    assert "Nothing to be done" in hospital.run()


def test_study_life__a_row_that_stays_or_comes_back_is_passed_over(hospital):
    rows = hospital.rows()
    hospital.write_rows(*rows, rows[1].replace("lakeside-002", "lakeside-001"))
    assert "Nothing to be done" in hospital.run()
    record = hospital.here.path / "private/lakeside/withdrawals/lakeside-001.json"
    content = record.read_bytes()
    record.unlink()
    refused = hospital.run(code=3)
    assert "'lakeside-001' has withdrawn" in refused
    record.write_bytes(content)
    hospital.write_rows(*rows)


def test_study_life__held_out_patient_withdraws_and_the_evaluation_forgets_them(hospital):
    assert hospital.files_of("lakeside-h01")
    withdraw = ("patient", "withdraw", "lakeside-h01", "--configuration", "config.yaml")
    first, again = (hospital.here.fedcall(*withdraw) for _ in range(2))
    assert "Nothing was ever released" in first
    assert "Nothing was ever released" in again
    assert not (hospital.here.path / "results/pilot/evaluation.html").exists()
    hospital.run()
    assert [path for path in hospital.files_of("lakeside-h01") if "withdrawals" not in path] == []


def test_study_life__goes_on_with_new_keys_and_is_closed_early(hospital):
    coordinator, here = hospital.coordinator, hospital.here
    shutil.copy(here.path / "results/pilot/final.safetensors", coordinator.path / "final.safetensors")
    here.fedcall("site", "rotate-keys", "--keys", "private/lakeside/keys")
    shutil.copy(here.path / "private/lakeside/keys/site.json", coordinator.path / "lakeside.json")
    told = coordinator.fedcall(
        *("study", "extend", "--study", "pilot.json", "--final", "final.safetensors", "--name", "pilot-2"),
        *("--rounds", 3, "--site", f"lakeside.json={PATIENTS}", "--output", "pilot-2.yaml"),
    )
    assert "in all rounds of both" in told
    coordinator.fedcall(
        "study", "sign", "--study", "pilot-2.yaml", "--keys", "private/keys", "--output", "pilot-2.json"
    )
    agreed = json.loads(coordinator.fedcall("study", "check", "--study", "pilot-2.json", "--json"))
    assert agreed["continues"] == yaml.safe_load((here.path / "config.yaml").read_text())["approved_study"]
    charged = hospital.ledger()["exposures"]
    with served(coordinator, "state-2", "pilot-2.json", "final.safetensors"):
        for path in ("pilot-2.json", "state-2/ca.crt"):
            shutil.copy(coordinator.path / path, here.path)

        def status() -> dict:
            return json.loads(coordinator.fedcall("aggregator", "status", "--state", "state-2", "--json"))

        config = yaml.safe_load((here.path / "config.yaml").read_text())
        config |= {"study": "pilot-2.json", "approved_study": agreed["digest"], "aggregator": status()["address"]}
        (here.path / "config-2.yaml").write_text(yaml.safe_dump(config))
        hospital.config = "config-2.yaml"
        hospital.run("results/pilot-2/lakeside/rounds/1/receipt.json")
        end = time.monotonic() + 60
        while status()["open_round"] < 2:
            assert time.monotonic() < end
            time.sleep(0.5)
        coordinator.fedcall("aggregator", "close", "--state", "state-2", "--reason", "the cap is spent")
        assert "closed study 'pilot-2' after round 1 (the cap is spent); run the workflow again" in hospital.run(code=1)
        hospital.run()
    folder = here.path / "results/pilot-2"
    final = read_weights(folder / "final.safetensors")
    assert (final.metadata["round"], final.metadata["study"]) == ("2", agreed["digest"])
    assert "</html>" in (folder / "lakeside/privacy.html").read_text()
    assert not (folder / "lakeside/rounds/2").exists()
    assert hospital.ledger()["exposures"] == charged, "the old cap holds over both: the people are left out, silently"
    assert "Nothing to be done" in hospital.run()


def test_study_life__somebody_unknown_cannot_withdraw(hospital):
    with pytest.raises(Exception, match="returned non-zero exit status 2"):
        hospital.here.fedcall("patient", "withdraw", "lakeside-999", "--configuration", "config.yaml")
