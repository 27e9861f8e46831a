"""What a site uploads in mode sealed: claim and update together, readable by the verified enclave alone."""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcall.protection import sealing

OVERHEAD_BYTES = 32 + 16 + 8
"""The one-time public key, the tag, and the claim's length."""

_DOMAIN = b"fedcall sealed upload v1"


@dataclass(frozen=True)
class UploadPlace:
    """Where an upload belongs: opened under another place, it is nothing."""

    study: str
    site: str
    round: int

    @property
    def info(self) -> bytes:
        """What the text is bound to (HPKE's info)."""
        parts = (self.study.encode(), self.site.encode(), str(self.round).encode())
        return _DOMAIN + b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def seal_upload(claim: bytes, update: bytes, place: UploadPlace, recipient: bytes, own_secret: bytes) -> bytes:
    """Return claim and update sealed to a key.

    Parameters
    ----------
    recipient : bytes
        X25519 key of 32 bytes, as verified evidence names it.
    own_secret : bytes
        At least 32 bytes that only the site knows: the one-time key follows from them and from what is sealed, so that
        the same upload to the same key is the same bytes.
    """
    text = len(claim).to_bytes(8, "big") + claim + update
    binding = _DOMAIN + recipient + hashlib.sha512(place.info).digest() + hashlib.sha512(text).digest()
    drawn = HKDF(hashes.SHA256(), length=32, salt=b"fedcall one-time key v1", info=binding).derive(own_secret)
    return sealing.seal(text, X25519PublicKey.from_public_bytes(recipient), place.info, drawn)


def open_upload(sealed: bytes, key: X25519PrivateKey, place: UploadPlace) -> tuple[bytes, bytes] | None:
    """Return claim and update, or None if they were not sealed to this key for this place."""
    text = sealing.unseal(sealed, key, place.info)
    if text is None or len(text) < 8:
        return None
    size = int.from_bytes(text[:8], "big")
    if size > len(text) - 8:
        return None
    return text[8 : 8 + size], text[8 + size :]
