"""Seal a message to the holder of an Ed25519 key, so that who carries it learns no more than its size.

HPKE (RFC 9180, the suite of `fedcall.protection.sealing`) to the X25519 form of the key that a study names already, so
that no hospital has one more key to keep and to mix up. One key pair for Ed25519 and this KEM is proven secure by
Thormarker 2021 (eprint 2021/509). The form follows from RFC 7748, section 4.1, and RFC 8032, section 5.1.5.
"""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fedcall.errors import FedcallError
from fedcall.protection import sealing

_PRIME = 2**255 - 19
OVERHEAD_BYTES = 48  # the encapsulated key and the tag


def seal(content: bytes, public_key: str, info: bytes) -> bytes:
    """Return `content` as only the holder of an Ed25519 key (base64 of 32 bytes) can read it, and only with `info`.

    Raises
    ------
    FedcallError
        If nothing can be sealed to that key.
    """
    try:
        return bytes(sealing.SUITE.encrypt(content, _exchange_public(public_key), info=info))
    except ValueError:
        raise FedcallError(f"nothing can be sealed to the key {public_key}; it is no Ed25519 key") from None


def unseal(sealed: bytes, key: Ed25519PrivateKey, info: bytes) -> bytes:
    """Return the content of `seal`.

    Raises
    ------
    FedcallError
        If it was sealed to another key, with another `info`, or was changed.
    """
    content = sealing.unseal(sealed, _exchange_private(key), info)
    if content is None:
        raise FedcallError("not sealed to this key and purpose, or changed on the way")
    return content


def _exchange_private(key: Ed25519PrivateKey) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(hashlib.sha512(key.private_bytes_raw()).digest()[:32])


def _exchange_public(public_key: str) -> X25519PublicKey:
    edwards = int.from_bytes(base64.b64decode(public_key, validate=True), "little")
    height = edwards & (2**255 - 1)
    if height >= _PRIME or height in (0, 1, _PRIME - 1):  # points of low order, and what is no coordinate
        raise ValueError("no Ed25519 key")
    montgomery = (1 + height) * pow(1 - height, -1, _PRIME) % _PRIME
    return X25519PublicKey.from_public_bytes(montgomery.to_bytes(32, "little"))
