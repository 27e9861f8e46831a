"""The site secret: made once, mode 0600, and nowhere but in its own file."""

import base64
import os
import stat

import pytest

from example_patients import write_patient
from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.weights import weights_digest
from forked import run_forked


def spellings(secret: bytes) -> list[bytes]:
    """Return how a secret could be written: raw, hexadecimal, base64 at every offset, as Python prints bytes."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()]
    for offset in range(3):  # base64 of a longer text that holds the secret
        found.append(base64.b64encode(bytes(offset) + secret)[4:-4])
        found.append(base64.urlsafe_b64encode(bytes(offset) + secret)[4:-4])
    return found


def test_create_keys__secret_is_made_once_and_readable_by_its_owner_only(tmp_path):
    previous = os.umask(0)
    try:
        create_keys(tmp_path / "keys", "north")
    finally:
        os.umask(previous)
    path = tmp_path / "keys" / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    before = path.read_bytes()
    create_keys(tmp_path / "keys", "north")
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(FedcallError, match="mode 0640 lets others read it"):
        read_secret(tmp_path / "keys")
    path.unlink()
    with pytest.raises(FedcallError, match="no such key"):
        read_secret(tmp_path / "keys")
    create_keys(tmp_path / "keys", "north")
    assert not path.exists(), "a lost secret is noticed, not replaced"


def test_read_secret__a_mistake_is_told_without_quoting_it(tmp_path):
    create_keys(tmp_path / "keys", "north")
    path = tmp_path / "keys" / "secret"
    damaged = path.read_bytes()[:31]
    path.write_bytes(damaged)
    with pytest.raises(FedcallError, match="31 bytes found, 32 expected") as error:
        read_secret(tmp_path / "keys")
    assert not [spelling for spelling in spellings(damaged) if spelling in str(error.value).encode()]


def test_commands__never_print_or_write_the_secret(tmp_path):
    """Keys, a round of training, its rerun, a mistake, ledger and report: everything they print and write is read."""
    private, results, logs = tmp_path / "private", tmp_path / "results", []

    def fedcall(*arguments):
        done = run_forked("fedcall", *arguments)
        logs.append((done.stdout + done.stderr).encode())
        return done.returncode

    assert fedcall("site", "keygen", "--name", "north", "--output", private / "keys") == 0
    identity, coordinator = create_keys(private / "keys", "north"), create_keys(tmp_path / "coordinator", "coordinator")
    save_model(results / "initial.safetensors", build_model())
    study = Study(
        name="tiny",
        coordinator=coordinator.public_key,
        sites=(Site(name="north", public_key=identity.public_key, node_key=identity.node_key, patients=1),),
        model=ModelTerms(initial_weights=weights_digest(weights_of(build_model()))),
        privacy=PrivacyTerms(noise_multiplier=2.0, sampling_rate=0.5, steps_per_round=1, rows_per_unit=8, delta=0.1),
    )
    write_signed(results / "study.json", study, read_signing_key(tmp_path / "coordinator"))
    train = [
        "train-round", "--study", results / "study.json", "--site", "north", "--keys", private / "keys", "--round", 1,
        "--model", results / "initial.safetensors", "--ledger", private / "ledger.sqlite",
        "--update", results / "update.safetensors", "--claim", results / "claim.json",
        write_patient(results / "p0.safetensors", 0),
    ]  # fmt: skip
    assert [fedcall(*train), fedcall(*train)] == [0, 0]
    write_patient(results / "p0.safetensors", 1)
    assert fedcall(*train) == 3
    assert fedcall("ledger", "show", "--ledger", private / "ledger.sqlite", "--json") == 0
    assert fedcall("ledger", "verify", "--ledger", private / "ledger.sqlite", "--keys", private / "keys") == 0
    assert fedcall("ledger", "plan", "--ledger", private / "ledger.sqlite", "--study", results / "study.json") == 0
    secret = private / "keys" / "secret"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != secret]
    assert len(written) > 8
    for spelling in spellings(secret.read_bytes()):
        assert len(spelling) >= 28
        for place, content in [*((path, path.read_bytes()) for path in written), *enumerate(logs)]:
            assert spelling not in content, place


def test_spellings__would_be_found():
    secret = bytes(range(200, 232))
    for text in (b"x" + base64.b64encode(b"ab" + secret), secret.hex().encode(), b"key=" + repr(secret).encode()):
        assert any(spelling in text for spelling in spellings(secret))
