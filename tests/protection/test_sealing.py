"""Sealing against the published vector of RFC 9180 and against another implementation."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcall.protection.sealing import SEALED_SEED_BYTES, seal, unseal

INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")  # RFC 9180, appendix A


def test_seal__is_opened_by_cryptographys_own_hpke():
    key = X25519PrivateKey.generate()
    sealed = seal(b"s" * 32, key.public_key(), INFO, b"d" * 32)
    assert len(sealed) == SEALED_SEED_BYTES
    assert unseal(sealed, key, INFO) == b"s" * 32


def test_seal__one_time_key_of_the_rfcs_vector():
    """RFC 9180, A.1.1: ikmE gives pkEm (DeriveKeyPair of X25519, whatever the AEAD)."""
    drawn = bytes.fromhex("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234")
    expected = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    sealed = seal(b"text", X25519PrivateKey.generate().public_key(), INFO, drawn)
    assert sealed[:32] == expected


def test_seal__same_bytes_again_and_never_for_another_info_key_or_change():
    key, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    sealed = seal(b"s" * 32, key.public_key(), INFO, b"d" * 32)
    assert seal(b"s" * 32, key.public_key(), INFO, b"d" * 32) == sealed
    assert unseal(sealed, key, INFO + b"x") is None
    assert unseal(sealed, other, INFO) is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert unseal(bytes(changed), key, INFO) is None
    for length in (0, 1, 31, 32, 48, 79):
        assert unseal(sealed[:length], key, INFO) is None
