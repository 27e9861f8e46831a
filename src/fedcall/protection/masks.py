"""One-shot masks: a site adds the key stream of a fresh seed to its vector and seals the seed to a helper.

A mask must never be used for two vectors: the difference of the two uploads would be that of the vectors. So a seed
follows from the site's secret, from all inputs of the release *and from the vector itself*. The same release again is
the same bytes; a vector that differs in one last digit, as after an upgrade, has another mask.

The key stream is ChaCha20 (RFC 8439) under a single-use key, so the nonce is constant. That masks hide is as certain as
that nobody tells ChaCha20's stream and HKDF's output from random numbers: a computational promise, like that of the
noise.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcall.protection.envelope import MaskedEnvelope, SealedSeed
from fedcall.protection.sealing import read_sealing_key, seal, unseal
from fedcall.weights import weights_digest

SEED_BYTES = 32
_PIECE = 1 << 16  # numbers of a mask made at once: 256 KiB stay in a processor's cache


@dataclass(frozen=True)
class Release:
    """What a mask belongs to; `inputs` is the keyed digest of all that determines the release."""

    study: str
    site: str
    round: int
    inputs: str


@dataclass(frozen=True)
class Drawn:
    """A vector under its masks (uint32, modulo 2^32), each helper's seed, and the digest of what is hidden."""

    vector: np.ndarray
    seeds: Mapping[str, bytes]
    content: str


@dataclass(frozen=True)
class Masked:
    """A masked update (int32 tensors of the names and shapes given), and its envelope."""

    tensors: dict[str, np.ndarray]
    envelope: MaskedEnvelope


def mask_update(
    tensors: Mapping[str, np.ndarray], release: Release, secret: bytes, helpers: Mapping[str, str]
) -> Masked:
    """Add one mask for each helper, and seal the seeds.

    Parameters
    ----------
    tensors : int32 tensors by name
        The vector to hide.
    secret : bytes
        The site's secret.
    helpers : mapping of str to str
        Each helper's key for sealing (X25519, base64) by its name.

    Raises
    ------
    ValueError
        If there is no helper, or a tensor is not int32.
    """
    drawn = draw_masks(tensors, release, secret, helpers)
    masked = unflat(drawn.vector, tensors)
    seeds = seal_seeds(drawn, release, secret, helpers, weights_digest(masked))
    return Masked(masked, MaskedEnvelope(values=len(drawn.vector), seeds=seeds))


def draw_masks(tensors: Mapping[str, np.ndarray], release: Release, secret: bytes, helpers: Mapping[str, str]) -> Drawn:
    """Return the vector of int32 tensors with one mask added for each helper; ValueError as `mask_update`."""
    if not helpers:
        raise ValueError("a mask needs a helper to take it away again")
    odd = next((name for name, tensor in tensors.items() if tensor.dtype != np.int32), None)
    if odd is not None:
        raise ValueError(f"tensor '{odd}' must be int32. Found {tensors[odd].dtype}.")
    vector = flat(tensors)
    content = weights_digest(tensors)
    seeds = {name: _derive(secret, b"seed", release, name, content.encode()) for name in helpers}
    add_masks(vector, list(seeds.values()))
    return Drawn(vector, seeds, content)


def seal_seeds(
    drawn: Drawn, release: Release, secret: bytes, helpers: Mapping[str, str], update: str
) -> tuple[SealedSeed, ...]:
    """Seal each seed to its helper, bound to the content digest of the update that leaves the site."""
    sealed = []
    for name, key in helpers.items():
        info = seed_info(release.study, release.site, release.round, name, update)
        one_time = _derive(secret, b"one-time key", release, name, drawn.content.encode() + drawn.seeds[name])
        text = seal(drawn.seeds[name], read_sealing_key(key), info, one_time)
        sealed.append(SealedSeed(helper=name, seed=base64.b64encode(text).decode()))
    return tuple(sealed)


def open_seed(sealed: str, key: X25519PrivateKey, info: bytes) -> bytes | None:
    """Return a seed that was sealed to this key under this `info`, or None."""
    try:
        seed = unseal(base64.b64decode(sealed, validate=True), key, info)
    except ValueError:
        return None
    return seed if seed is not None and len(seed) == SEED_BYTES else None


def seed_info(study: str, site: str, number: int, helper: str, update: str) -> bytes:
    """Return what a sealed seed is bound to; `update` is the content digest of the masked update."""
    return b"fedcall mask v1" + _framed(study, site, str(number), helper, update)


def sum_of_masks(seeds: Sequence[bytes], values: int) -> np.ndarray:
    """Return the sum of the masks of these seeds modulo 2^32: uint32, shape (values,)."""
    total = np.zeros(values, np.uint32)
    add_masks(total, seeds)
    return total


def add_masks(vector: np.ndarray, seeds: Sequence[bytes]) -> None:
    """Add the mask of each seed to a uint32 vector in place, modulo 2^32."""
    streams = [Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor() for seed in seeds]
    zeros = bytes(4 * _PIECE)
    for start in range(0, len(vector), _PIECE):
        piece = vector[start : start + _PIECE]
        for stream in streams:
            piece += np.frombuffer(stream.update(zeros[: 4 * len(piece)]), "<u4")


def flat(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return int32 tensors as one vector, in the order of their names: uint32, a copy."""
    return np.concatenate([tensors[name].reshape(-1).view(np.uint32) for name in sorted(tensors)])


def unflat(vector: np.ndarray, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a uint32 vector as int32 tensors of the names and shapes of others."""
    return dict(_tensors(vector.view(np.int32), like))


def _tensors(vector: np.ndarray, like: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    start = 0
    for name in sorted(like):
        stop = start + like[name].size
        yield name, vector[start:stop].reshape(like[name].shape)
        start = stop


def _derive(secret: bytes, purpose: bytes, release: Release, helper: str, binding: bytes) -> bytes:
    if len(secret) < 32:
        raise ValueError(f"a secret has at least 32 bytes. Found {len(secret)}.")
    context = _framed(release.study, release.site, str(release.round), helper, release.inputs)
    info = _lengths([purpose]) + context + _lengths([binding])
    return HKDF(hashes.SHA256(), length=SEED_BYTES, salt=b"fedcall masks v1", info=info).derive(secret)


def _framed(*parts: str) -> bytes:
    return _lengths(part.encode() for part in parts)


def _lengths(parts: Iterable[bytes]) -> bytes:
    """Return the parts one after the other, each with its length before it, so that they cannot run together."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
