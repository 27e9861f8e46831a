"""Whose fault a void round was: at each holder it shows whether what it signed is the partial decryption of the sum."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from encrypted_consortium import HOLDERS, make_encrypted_consortium, needs_openfhe
from fedcall.documents import sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.helper.dispute import verify_given
from fedcall.keys import read_signing_key
from fedcall.protection import bfv
from fedcall.study.sum_orders import MaskSum

pytestmark = needs_openfhe


@pytest.fixture(scope="module")
def void(tmp_path_factory):
    """Return a consortium whose first round is void: holder ethics signed a partial decryption of another sum."""
    made = make_encrypted_consortium(tmp_path_factory.mktemp("void"), rounds=1)
    state = made.open_state()
    made.upload_all(state, 1)
    assert not state.close_round_if_due()
    given = made.help(state, "notary")
    state.sums.take("notary", given.statement, given.masks)
    given = made.help(state, "ethics")
    statement = verify(given.statement, MaskSum, made.study.protection.signing_keys["ethics"])
    size = len(given.masks) - bfv.parameters().partial_bytes(1)
    secret = (made.keys("ethics") / "encryption-pilot.secret").read_bytes()
    other = bfv.partial(bytes(bfv.parameters().polynomial_bytes(2)), secret, True)
    signed = statement.model_copy(update={"partial": hashlib.sha256(other).hexdigest()})
    signed = sign(signed, read_signing_key(made.keys("ethics")))
    state.sums.take("ethics", signed, given.masks[:size] + other)
    assert state.close_round_if_due()
    assert state.log.openings[2].void
    return made


def check(void, name, **changes):
    folder = void.state / "rounds" / "1"
    given = {
        "study": void.study,
        "number": 1,
        "keys": void.keys(name),
        "log": void.state / "admission.jsonl",
        "partial": folder / "masks" / f"{name}.partial",
        "updates": folder / "accepted",
    }
    return verify_given(**given | changes)


def test_verify_given__the_wrong_holder_is_told_from_the_right_one(void):
    assert "'notary' signed is one of the sum of 3 listed updates" in check(void, "notary")
    with pytest.raises(FedcallError, match="holder 'ethics' signed is not one of the listed sum"):
        check(void, "ethics")


def test_verify_given__only_with_the_key_of_the_share_and_the_files_that_were_signed(void, tmp_path):
    keys = tmp_path / "keys"
    shutil.copytree(void.keys("notary"), keys)
    secret = keys / "encryption-pilot.secret"
    secret.chmod(0o600)
    secret.write_bytes((void.keys("ethics") / "encryption-pilot.secret").read_bytes())
    with pytest.raises(FedcallError, match="is not the one of the share"):
        check(void, "notary", keys=keys)
    # Not the holder's, and yet with small noise: the key plus the inverse of the common polynomial. It is not short.
    terms, common = bfv.parameters(), bfv.common_polynomial("ceremony pilot")
    own = np.frombuffer((void.keys("notary") / "encryption-pilot.secret").read_bytes(), "<u8").reshape(common.shape)
    rows = zip(own.tolist(), common.tolist(), terms.moduli, strict=True)
    made_up = [[(s + pow(a, -1, q)) % q for s, a in zip(one, other, strict=True)] for one, other, q in rows]
    secret.write_bytes(np.array(made_up, "<u8").tobytes())
    with pytest.raises(FedcallError, match="is not the one of the share"):
        check(void, "notary", keys=keys)
    theirs = void.state / "rounds/1/masks" / f"{HOLDERS[1]}.partial"
    with pytest.raises(FedcallError, match="another partial decryption than the one that holder 'notary' signed"):
        check(void, "notary", partial=theirs)
    updates = tmp_path / "accepted"
    shutil.copytree(void.state / "rounds/1/accepted", updates)
    shutil.copy(updates / "east.safetensors", updates / "north.safetensors")
    with pytest.raises(FedcallError, match="the update of site 'north'"):
        check(void, "notary", updates=updates)
    with pytest.raises(FedcallError, match="says of no sum that was answered in round 2"):
        check(void, "notary", number=2)


def test_partial__what_a_faulty_machine_computes_is_never_given(void, tmp_path):
    """A flipped bit in a partial decryption would void a round: patients would have been charged for nothing."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import bfv_program as p\n"
        "right = p.Scheme.coefficients\n"
        "def faulty(self, *thing):\n"
        "    made = right(self, *thing)\n"
        "    made[0, 0, 7] ^= 1\n"
        "    return made\n"
        "p.Scheme.coefficients = faulty\n"
        "try: p.partial(sys.argv[2], sys.argv[3], 'main', sys.argv[4])\n"
        "except p.InputFault as fault: print(fault)\n"
    )
    total, output = tmp_path / "sum", tmp_path / "partial"
    total.write_bytes(bytes(bfv.parameters().polynomial_bytes(2)))
    secret, place = void.keys("notary") / "encryption-pilot.secret", Path(bfv.__file__).parent
    command = [bfv.find_interpreter(), "-I", "-c", script, place, total, secret, output]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "a fault of this machine; nothing is given" in said
    assert not output.exists()
