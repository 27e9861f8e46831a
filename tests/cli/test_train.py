"""`fedcall train-public` and `fedcall train-round` through the shell."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from example_patients import write_patient
from fedcall.documents import read_signed, write_signed
from fedcall.keys import create_keys, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.weights import read_weights, weights_digest
from forked import run_forked


def fedcall(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    identity, coordinator = create_keys(folder / "keys", "north"), create_keys(folder / "coordinator", "coordinator")
    model = build_model()
    save_model(folder / "initial.safetensors", model)
    study = Study(
        name="tiny",
        coordinator=coordinator.public_key,
        sites=(Site(name="north", public_key=identity.public_key, node_key=identity.node_key, patients=3),),
        model=ModelTerms(initial_weights=weights_digest(weights_of(model))),
        rounds=2,
        privacy=PrivacyTerms(noise_multiplier=2.0, sampling_rate=0.5, steps_per_round=2, rows_per_unit=8, delta=0.03),
    )
    write_signed(folder / "study.json", study, read_signing_key(folder / "coordinator"))
    for index in range(4):
        write_patient(folder / f"p{index}.safetensors", index)
    return folder


@pytest.fixture(autouse=True)
def forget_the_ledger(hospital):
    """Each test has a ledger of its own."""
    yield
    (hospital / "keys" / "ledger.head").unlink(missing_ok=True)


def train_round(folder: Path, out: Path, *, patients=(0, 1, 2), **changes: object) -> subprocess.CompletedProcess[str]:
    options = {
        "study": folder / "study.json",
        "site": "north",
        "keys": folder / "keys",
        "round": 1,
        "model": folder / "initial.safetensors",
        "ledger": out / "ledger.sqlite",
        "update": out / "update.safetensors",
        "claim": out / "claim.json",
    } | changes
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return fedcall("train-round", *flags, *(folder / f"p{index}.safetensors" for index in patients))


def test_train_round__writes_update_and_claim_and_repeats_them(hospital, tmp_path):
    first = train_round(hospital, tmp_path)
    assert first.returncode == 0, first.stderr
    # No warnings; progress speaks up only where a step takes long.
    assert all(line.startswith("private training") for line in first.stderr.splitlines()), first.stderr
    update, claim = (tmp_path / "update.safetensors").read_bytes(), (tmp_path / "claim.json").read_bytes()
    identity = json.loads((hospital / "keys" / "site.json").read_bytes())
    document = read_signed(tmp_path / "claim.json", Claim, identity["public_key"])
    assert document.outcome == "update"
    assert document.update == read_weights(tmp_path / "update.safetensors").digest
    for name in ("update.safetensors", "claim.json"):
        (tmp_path / name).unlink()
    again = train_round(hospital, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "returned" in again.stdout
    assert (tmp_path / "update.safetensors").read_bytes() == update
    assert (tmp_path / "claim.json").read_bytes() == claim


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "south"}, "site 'south' is not part of study 'tiny' (sites: north)"),
        ({"round": 3}, "--round 3: study 'tiny' has rounds 1 to 2"),
        ({"patients": (0, 1, 2, 3)}, "4 patients given, but site 'north' declared 3"),
        ({"patients": (0, 0)}, "patient 'p0' is given twice"),
        ({"patients": (9,)}, "p9.safetensors: no such examples file"),
        ({"device": "tpu"}, "--device tpu: one of cpu, cuda, auto expected"),
    ],
)
def test_train_round__user_mistakes_charge_nothing(hospital, tmp_path, changes, message):
    result = train_round(hospital, tmp_path, **changes)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_train_public__without_examples_is_the_fresh_model(tmp_path):
    terms = tmp_path / "study.yaml"
    terms.write_text(yaml.safe_dump({"name": "tiny"}))
    result = fedcall("train-public", "--terms", terms, "--output", tmp_path / "m.safetensors")
    assert result.returncode == 0, result.stderr
    assert read_weights(tmp_path / "m.safetensors").digest == weights_digest(weights_of(build_model()))


def test_train_round__later_round_wants_the_receipt_before(hospital, tmp_path):
    done = train_round(hospital, tmp_path, round=2, receipts=tmp_path / "rounds")
    assert done.returncode == 2, done.stderr
    assert f"{tmp_path}/rounds/1/receipt.json: no such file" in done.stderr
    assert not (tmp_path / "update.safetensors").exists()
