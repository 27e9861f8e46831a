"""A round at a site whose updates are encrypted: no key, no charge; what is encrypted is masked, and stored once."""

import shutil
import sys

import numpy as np
import pytest

from crashes import run_and_kill
from encrypted_consortium import HOLDERS, make_key, needs_openfhe
from example_patients import write_patient
from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_secret
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.protection import bfv
from fedcall.protection.ceremony import read_holders_secret, read_joint_key, write_shares
from fedcall.protection.helper_keys import create_helper_keys, read_sealing_private
from fedcall.protection.masks import open_seed, seed_info, sum_of_masks
from fedcall.study.claims import Claim
from fedcall.study.terms import Study
from fedcall.training.rounds import RoundFiles, train_round
from fedcall.weights import read_weights, weights_digest

pytestmark = needs_openfhe


@pytest.fixture
def study(tmp_path) -> Study:
    identity = create_keys(tmp_path / "north", "north")
    other = create_keys(tmp_path / "south", "south")
    joint, shares = make_key(tmp_path)
    write_shares(tmp_path / "study.json", shares)
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
                "mode": "encrypted",
                "minimum_sites": 2,
                "helpers": [create_helper_keys(tmp_path / "keys" / name, name).model_dump() for name in HOLDERS],
                "encryption": joint.model_dump(),
            },
        }
    )


def test_train_round__an_encrypted_update_opens_with_all_holders_to_a_masked_vector(study, tmp_path):
    terms = study.protection
    patients = [write_patient(tmp_path / f"p{index}.safetensors", index) for index in range(3)]
    ledger, out = tmp_path / "ledger.sqlite", (tmp_path / "update.safetensors", tmp_path / "claim.json")
    files = RoundFiles(tmp_path / "north", tmp_path / "initial.safetensors", patients, ledger, *out)
    place = (study, "north", 1, files)
    with pytest.raises(FedcallError, match="joint key was not given"):
        train_round(*place)
    assert not ledger.exists()  # nobody was charged
    key = read_joint_key(terms.encryption, terms.signing_keys, tmp_path / "study.json")
    train_round(*place, key=key)
    first = [path.read_bytes() for path in out]
    train_round(*place, key=key)
    assert [path.read_bytes() for path in out] == first  # stored: a second encryption would differ

    claim, tensors = read_unverified(first[1], Claim)[0], read_weights(out[0]).tensors
    assert (claim.update, claim.envelope.kind) == (weights_digest(tensors), "encrypted")
    values, total = claim.envelope.values, tensors["ciphertexts"].tobytes()
    partials = [
        bfv.partial(
            total,
            read_holders_secret(terms.encryption, terms.signing_keys, tmp_path / "keys" / name, name),
            name == terms.leader,
        )
        for name in sorted(HOLDERS)
    ]
    masked = bfv.fuse(partials, values, 1).astype(np.uint64).astype(np.uint32)
    assert np.abs(masked.view(np.int32).astype(np.int64)).mean() > 2**28  # all of the key together see a mask
    for sealed in claim.envelope.seeds:
        info = seed_info(study.digest, "north", 1, sealed.helper, claim.update)
        seed = open_seed(sealed.seed, read_sealing_private(tmp_path / "keys" / sealed.helper), info)
        masked -= sum_of_masks([seed], values)
    assert 0 < np.abs(masked.view(np.int32).astype(np.int64)).max() < 2**16 * 3 * 10


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_train_round__kill_9_while_an_update_is_encrypted_and_stored_charges_once_and_keeps_one_vector(study, tmp_path):
    """Every third durable operation: ciphertexts are random, the masked vector in them and its seeds are not."""
    terms = study.protection
    patients = [write_patient(tmp_path / f"p{index}.safetensors", index) for index in range(3)]
    key = read_joint_key(terms.encryption, terms.signing_keys, tmp_path / "study.json")
    initial = tmp_path / "initial.safetensors"

    def train(folder):
        out = (folder / "update.safetensors", folder / "claim.json")
        files = RoundFiles(folder / "keys", initial, patients, folder / "ledger.sqlite", *out)
        train_round(study, "north", 1, files, key=key)
        return [path.read_bytes() for path in out]

    def new(name):
        shutil.copytree(tmp_path / "north", tmp_path / name / "keys")
        return tmp_path / name

    def seeds(claim):
        found = []
        for sealed in claim.envelope.seeds:
            info = seed_info(study.digest, "north", 1, sealed.helper, claim.update)
            found.append(open_seed(sealed.seed, read_sealing_private(tmp_path / "keys" / sealed.helper), info))
        return found

    expected = seeds(read_unverified(train(new("whole"))[1], Claim)[0])
    assert None not in expected
    moment = 1
    while True:
        folder = new(f"killed-{moment}")
        if not run_and_kill(lambda: train(folder), moment):  # noqa: B023  (run at once)
            break
        made = train(folder)
        assert train(folder) == made, moment
        claim = read_unverified(made[1], Claim)[0]
        assert claim.update == weights_digest(read_weights(folder / "update.safetensors").tensors), moment
        assert seeds(claim) == expected, moment
        with Ledger.open_to_read(folder / "ledger.sqlite", read_secret(folder / "keys")) as ledger:
            assert [row.kind for row in ledger.rows()] == ["reserve", "release"], moment
        moment += 3
    assert moment > 20
