"""An encrypted update: the masked vector of a site as ciphertexts under the joint key of a study's holders.

Why masked *and* encrypted. BFV hides a vector from whoever only looks on. Alone it is not enough against a hospital
that takes part and works together with the coordinator: ciphertexts can be subtracted from each other, and a made-up
ciphertext in a sum makes what is opened tell about the joint secret key. So what is encrypted carries a one-time mask
for each holder (`masks`), whose seed only that holder can open, for this update of this site alone. One update is seen
only by who has all masks *and* the joint secret key; docs/encrypted-sums.md has the attack and the argument.

In the update's file there is one tensor, `ciphertexts`: uint64, shape (blocks, 2, moduli, ring).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedcall.errors import FedcallError
from fedcall.protection import bfv
from fedcall.protection.envelope import EncryptedEnvelope
from fedcall.protection.masks import Release, draw_masks, seal_seeds
from fedcall.weights import load_tensors, weights_digest

TENSOR = "ciphertexts"
_HEADER_BYTES = 64 * 1024


@dataclass(frozen=True)
class EncryptionKey:
    """A joint key, and the digest of the document that names it."""

    digest: str
    content: bytes


@dataclass(frozen=True)
class Encrypted:
    """The ciphertexts that leave the site, and their envelope."""

    tensors: dict[str, np.ndarray]
    envelope: EncryptedEnvelope


def encrypt_update(
    tensors: Mapping[str, np.ndarray],
    release: Release,
    secret: bytes,
    helpers: Mapping[str, str],
    key: EncryptionKey,
) -> Encrypted:
    """Mask int32 tensors for each helper and encrypt what comes out; parameters as `masks.mask_update`.

    Encryption draws fresh randomness, so a repeated release has other bytes; the masked vector in it is the same.
    """
    drawn = draw_masks(tensors, release, secret, helpers)
    values = len(drawn.vector)
    content = bfv.encrypt(key.content, drawn.vector.view(np.int32))
    hidden = {TENSOR: np.frombuffer(content, "<u8").reshape(ciphertext_shape(values))}
    seeds = seal_seeds(drawn, release, secret, helpers, weights_digest(hidden))
    return Encrypted(hidden, EncryptedEnvelope(kind="encrypted", values=values, key=key.digest, seeds=seeds))


def ciphertext_shape(values: int) -> tuple[int, int, int, int]:
    """Return the shape of the tensor that holds the ciphertexts of so many numbers."""
    terms = bfv.parameters()
    return terms.blocks(values), 2, len(terms.moduli), terms.ring_dimension


def read_ciphertexts(content: bytes, update: str, values: int) -> bytes:
    """Return the ciphertexts in an update's file that comes from anywhere, ready to be added.

    Parameters
    ----------
    update : str
        Content digest that the site's claim names.

    Raises
    ------
    FedcallError
        If the file is too large, is not one tensor of ciphertexts, or is another update than the one claimed.
    """
    largest = bfv.parameters().ciphertext_bytes(values) + _HEADER_BYTES
    if len(content) > largest:
        raise FedcallError(f"an update of {values} encrypted numbers has at most {largest} bytes, found {len(content)}")
    tensors = load_tensors(content)
    tensor = tensors.get(TENSOR)
    if len(tensors) != 1 or tensor is None or tensor.dtype != np.uint64 or tensor.shape != ciphertext_shape(values):
        raise FedcallError(f"holds something else than the ciphertexts of {values} numbers")
    if weights_digest(tensors) != update:
        raise FedcallError("holds another update than the one its site signed")
    found = tensor.astype("<u8", copy=False).tobytes()
    bfv.check_polynomials(found, 2 * tensor.shape[0], "ciphertexts")
    return found
