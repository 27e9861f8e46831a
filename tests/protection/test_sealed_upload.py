"""A sealed upload opens at its place, with its key, and nowhere else; the same upload is the same bytes."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.protection.sealed_upload import OVERHEAD_BYTES, UploadPlace, open_upload, seal_upload

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
PLACE = UploadPlace("0" * 64, "north", 3)
SECRET = b"site" * 8


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_open_upload__what_was_sealed(claim, update):
    sealed = seal_upload(claim, update, PLACE, PUBLIC, SECRET)
    assert len(sealed) == len(claim) + len(update) + OVERHEAD_BYTES
    assert open_upload(sealed, KEY, PLACE) == (claim, update)
    assert sealed == seal_upload(claim, update, PLACE, PUBLIC, SECRET)


def test_open_upload__no_other_place_or_key_and_no_changed_byte():
    sealed = seal_upload(b"claim", b"update", PLACE, PUBLIC, SECRET)
    for place in (
        UploadPlace("1" * 64, "north", 3),
        UploadPlace("0" * 64, "south", 3),
        UploadPlace("0" * 64, "north", 4),
    ):
        assert open_upload(sealed, KEY, place) is None
    assert open_upload(sealed, X25519PrivateKey.generate(), PLACE) is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert open_upload(bytes(changed), KEY, PLACE) is None
    assert open_upload(b"", KEY, PLACE) is None


def test_seal_upload__no_one_time_key_serves_two_texts():
    sealed = {
        seal_upload(claim, update, place, key, secret)[:32]
        for claim, update in ((b"ab", b"c"), (b"a", b"bc"), (b"a", b"bd"))
        for place in (PLACE, UploadPlace("0" * 64, "north", 4))
        for key in (PUBLIC, X25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())
        for secret in (SECRET, b"else" * 8)
    }
    assert len(sealed) == 3 * 2 * 2 * 2
