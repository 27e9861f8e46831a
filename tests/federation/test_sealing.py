"""Messages that only one holder of a key can read."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.federation import sealing
from fedcall.federation.sealing import OVERHEAD_BYTES, seal, unseal


def test_seal__opens_with_the_key_and_purpose_it_was_made_for():
    key = Ed25519PrivateKey.generate()
    sealed = seal(b"an update", public_text(key.public_key()), b"round 1")
    assert unseal(sealed, key, b"round 1") == b"an update"
    assert len(sealed) == len(b"an update") + OVERHEAD_BYTES
    assert b"update" not in sealed
    with pytest.raises(FedcallError, match="not sealed to this key"):
        unseal(sealed, key, b"round 2")
    with pytest.raises(FedcallError, match="not sealed to this key"):
        unseal(sealed, Ed25519PrivateKey.generate(), b"round 1")


@pytest.mark.parametrize("length", [0, 10, 31, 47])
def test_unseal__what_is_cut(length):
    key = Ed25519PrivateKey.generate()
    with pytest.raises(FedcallError, match="not sealed to this key"):
        unseal(seal(b"content", public_text(key.public_key()), b"")[:length], key, b"")


def test_seal__the_public_and_the_private_key_have_the_same_exchange_form():
    """The public half of the converted private key is the converted public key, for any key (RFC 7748, RFC 8032)."""
    for number in range(200):
        key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
        public = sealing._exchange_public(public_text(key.public_key()))
        assert public.public_bytes_raw() == sealing._exchange_private(key).public_key().public_bytes_raw()


@pytest.mark.parametrize("height", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1])
def test_seal__refuses_points_of_low_order_and_what_is_no_key(height):
    with pytest.raises(FedcallError, match="it is no Ed25519 key"):
        seal(b"content", base64.b64encode(height.to_bytes(32, "little")).decode(), b"")
