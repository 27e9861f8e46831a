"""Seal a few bytes to a public key: HPKE in base mode (RFC 9180), X25519, HKDF-SHA256, AES-256-GCM.

Sealing draws a one-time key. Ours follows from the sender's secret and from what is sealed, so that a repeated release
is the same bytes; `cryptography`, whose own sender draws at random, opens what is sealed here. The same one-time key
never seals two different texts, because the text is one of the things it follows from.
"""

import base64
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SEALED_SEED_BYTES = 32 + 32 + 16
"""The one-time public key, a seed, and the tag."""

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
# RFC 9180, section 7: the numbers of KEM, KDF and AEAD.
_KEM_ID = b"KEM" + bytes.fromhex("0020")
_HPKE_ID = b"HPKE" + bytes.fromhex("002000010002")


def seal(text: bytes, recipient: X25519PublicKey, info: bytes, drawn: bytes) -> bytes:
    """Return the one-time public key and the sealed text, as RFC 9180 (section 6.1) writes them one after the other.

    Parameters
    ----------
    info : bytes
        What the text belongs to; nobody opens it under another.
    drawn : bytes
        At least 32 bytes that nobody else can guess and that differ for every text: the one-time key follows from them.
    """
    if len(drawn) < 32:
        raise ValueError(f"a one-time key follows from at least 32 bytes. Found {len(drawn)}.")
    secret = _expand(_KEM_ID, _extract(_KEM_ID, b"", b"dkp_prk", drawn), b"sk", b"")
    one_time = X25519PrivateKey.from_private_bytes(secret)
    encapsulated = one_time.public_key().public_bytes_raw()
    shared = _extract(_KEM_ID, b"", b"eae_prk", one_time.exchange(recipient))
    shared = _expand(_KEM_ID, shared, b"shared_secret", encapsulated + recipient.public_bytes_raw())
    schedule = b"\0" + _extract(_HPKE_ID, b"", b"psk_id_hash", b"") + _extract(_HPKE_ID, b"", b"info_hash", info)
    prk = _extract(_HPKE_ID, shared, b"secret", b"")
    key, nonce = _expand(_HPKE_ID, prk, b"key", schedule), _expand(_HPKE_ID, prk, b"base_nonce", schedule, 12)
    return encapsulated + AESGCM(key).encrypt(nonce, text, b"")


def unseal(sealed: bytes, recipient: X25519PrivateKey, info: bytes) -> bytes | None:
    """Return the text, or None if it was not sealed to this key under this `info`."""
    try:
        return bytes(SUITE.decrypt(sealed, recipient, info=info))
    except (InvalidTag, ValueError):
        return None


def read_sealing_key(text: str) -> X25519PublicKey:
    """Return a helper's public key from base64 of its 32 bytes; ValueError if it is none."""
    return X25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """LabeledExtract of RFC 9180, section 4."""
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256).digest()


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int = 32) -> bytes:
    """LabeledExpand of RFC 9180, section 4."""
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, labelled).derive(prk)
