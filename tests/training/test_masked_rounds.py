"""A round at a site whose updates are masked: the vector is never written, and the same release is the same bytes."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from crashes import run_and_kill
from example_patients import write_patient
from fedcall.documents import read_unverified
from fedcall.keys import create_keys, read_secret
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.protection.helper_keys import create_helper_keys, read_sealing_private
from fedcall.protection.masks import flat, open_seed, seed_info, sum_of_masks, unflat
from fedcall.study.claims import Claim
from fedcall.study.terms import Study
from fedcall.training.rounds import RoundFiles, train_round
from fedcall.weights import read_weights, weights_digest

HELPERS = ("notary", "ethics")


@pytest.fixture
def study(tmp_path) -> Study:
    identity = create_keys(tmp_path / "keys", "north")
    other = create_keys(tmp_path / "other", "south")
    helpers = [create_helper_keys(tmp_path / name, name) for name in HELPERS]
    model = build_model()
    save_model(tmp_path / "initial.safetensors", model)
    return Study.model_validate(
        {
            "name": "tiny",
            "coordinator": identity.public_key,
            "sites": [{**one.model_dump(), "patients": 3} for one in (identity, other)],
            "model": {"initial_weights": weights_digest(weights_of(model)), "trainable": "head"},
            "privacy": {
                **{"noise": "pooled", "contribution": "delta", "local_steps": 2, "steps_per_round": 1},
                **{"noise_multiplier": 2.0, "sampling_rate": 0.5, "rows_per_unit": 8, "delta": 0.01},
            },
            "protection": {
                "mode": "masked",
                "minimum_sites": 2,
                "helpers": [helper.model_dump() for helper in helpers],
            },
        }
    )


def train(study: Study, folder: Path, keys: Path) -> tuple[bytes, Claim]:
    folder.mkdir(exist_ok=True)
    patients = [write_patient(folder / f"p{index}.safetensors", index) for index in range(3)]
    out = folder / "update.safetensors", folder / "claim.json"
    model = keys.parent / "initial.safetensors"
    train_round(study, "north", 1, RoundFiles(keys, model, patients, folder / "ledger.sqlite", *out))
    return out[0].read_bytes(), read_unverified(out[1].read_bytes(), Claim)[0]


def test_train_round__a_masked_update_hides_the_vector_and_it_is_written_nowhere(study, tmp_path):
    update, claim = train(study, tmp_path / "site", tmp_path / "keys")
    tensors = read_weights(tmp_path / "site" / "update.safetensors").tensors
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.int32)}
    assert (claim.update, claim.envelope.kind) == (weights_digest(tensors), "masked")
    assert [seed.helper for seed in claim.envelope.seeds] == list(HELPERS)
    vector = flat(tensors)
    for sealed in claim.envelope.seeds:
        info = seed_info(study.digest, "north", 1, sealed.helper, claim.update)
        vector -= sum_of_masks(
            [open_seed(sealed.seed, read_sealing_private(tmp_path / sealed.helper), info)], vector.size
        )
    opened = unflat(vector, tensors)
    largest = max(float(np.abs(tensor).max()) for tensor in opened.values())
    assert 0 < largest < 2**16 * 3 * 10  # three patients' clipped deltas and noise, in points of the grid
    pieces = [tensor.reshape(-1)[:8].tobytes() for tensor in opened.values() if tensor.size >= 8]
    files = [path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()]
    assert any(update in content for content in files)
    assert not any(piece in content for piece in pieces for content in files)


def test_train_round__the_same_masked_release_is_the_same_bytes_whether_stored_or_made_again(study, tmp_path):
    first, claim = train(study, tmp_path / "site", tmp_path / "keys")
    assert train(study, tmp_path / "site", tmp_path / "keys") == (first, claim)  # from the ledger
    (tmp_path / "keys" / "ledger.head").unlink()  # else a ledger that does not know the release is refused
    again, made_again = train(study, tmp_path / "elsewhere", tmp_path / "keys")  # as after a crash before it was stored
    assert (again, made_again.envelope) == (first, claim.envelope)
    shutil.rmtree(tmp_path / "elsewhere")


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_train_round__kill_9_while_an_update_is_masked_and_stored_charges_once_and_keeps_one_mask(study, tmp_path):
    """Every fourth durable operation; two vectors under one mask would show their difference."""

    def new(name: str) -> Path:
        shutil.copytree(tmp_path / "keys", tmp_path / name / "keys")
        shutil.copyfile(tmp_path / "initial.safetensors", tmp_path / name / "initial.safetensors")
        return tmp_path / name

    whole = new("whole")
    expected, claim = train(study, whole / "site", whole / "keys")
    moment = 1
    while True:
        folder = new(f"killed-{moment}")
        if not run_and_kill(lambda: train(study, folder / "site", folder / "keys"), moment):  # noqa: B023  (run at once)
            break
        update, made = train(study, folder / "site", folder / "keys")
        assert (update, made.envelope) == (expected, claim.envelope), moment
        with Ledger.open_to_read(folder / "site/ledger.sqlite", read_secret(folder / "keys")) as ledger:
            assert [row.kind for row in ledger.rows()] == ["reserve", "release"], moment
        moment += 4
    assert moment > 20


def test_train_round__a_masked_upload_is_as_large_as_a_plain_one(study, tmp_path):
    update, claim = train(study, tmp_path / "site", tmp_path / "keys")
    floats = sum(4 * tensor.size for tensor in read_weights(tmp_path / "site" / "update.safetensors").tensors.values())
    assert len(update) <= floats + 1024
    assert len(claim.envelope.canonical()) < 250 * len(HELPERS)
