"""Keyed noise: reproducible by whoever holds the site's secret, unpredictable to everyone else.

A key is derived for every purpose from the secret and the full context of a step (HKDF-SHA256, RFC 5869); the key of
noise is also bound to the sum it hides, and all keys of training to the keyed digest of what went in. Equal inputs give
the same release and any other input independent draws and noise, even if a sum happens to be equal (invariant 4; the
idea of synthetic initialisation vectors, RFC 5297). Each key makes one ChaCha20 stream (RFC 8439).
"""

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.discrete_noise import discrete_gaussian, rounded_laplace
from fedcall.privacy.terms import Mechanism

MAX_NOISE_MULTIPLIER = 1e6  # below the largest scale that the sampler takes


@dataclass(frozen=True)
class StepContext:
    """Where a random draw belongs: no two steps of any study share a context."""

    study: str  # digest of the study
    site: str
    round: int
    step: int  # within the round
    inputs: str  # keyed digest of all that determines the release (`keyed_digest`): it tells nothing without the secret


def noisy_sum(
    secret: bytes,
    context: StepContext,
    total: np.ndarray,
    mechanism: Mechanism,
    scale: float | np.ndarray,
    unit: float = 1.0,
    grid: int = GRID,
) -> np.ndarray:
    """Add keyed noise to an exact sum of clipped units.

    Parameters
    ----------
    secret : bytes
        The site's secret (`fedcall.keys.read_secret`).
    context : StepContext
        The step the sum belongs to.
    total : int64, shape (parameters,)
        Sum of clipped units in grid points (`clipping.grid_sum`).
    mechanism : "gaussian" or "laplace"
    scale : float, or float64 of shape (parameters,)
        Noise multiplier: σ of the discrete Gaussian, or scale b of the rounded Laplace, in clip norms. 0 adds nothing.
    unit : float
        What a sum of `grid` points stands for, if that is no constant of the study: the noise is bound to it too.
    grid : int
        Grid points per clip norm.

    Returns
    -------
    int64, shape (parameters,)
        `total` + noise, in grid points.

    Notes
    -----
    The support does not depend on `total`, and the noise has exactly the distribution that is accounted, which closes
    the floating-point hole of Mironov 2012. Rounded Laplace noise on a whole number is the rounded sum of that number
    and real noise: post-processing. What the discrete Gaussian costs beyond the real one: docs/noise.md.
    """
    if total.dtype != np.int64 or total.ndim != 1:
        raise ValueError(f"total must be int64 of shape (parameters,). Found {total.dtype}, {total.shape}.")
    if not (np.all(scale >= 0) and np.all(scale <= MAX_NOISE_MULTIPLIER)):
        raise ValueError(f"noise multiplier must be in [0, {MAX_NOISE_MULTIPLIER:g}]. Found {scale}.")
    if not np.any(scale):
        return total.copy()
    hidden = hashlib.sha256(total.astype("<i8").tobytes())
    if unit != 1.0:
        hidden.update(unit.hex().encode())
    stream = Stream(step_key(secret, context, "noise", hidden.digest()))
    draw = discrete_gaussian if mechanism == "gaussian" else rounded_laplace
    noisy, scales = total.copy(), np.broadcast_to(np.asarray(scale, np.float64), total.shape)
    # Runs of equal scale, one after the other from one stream.
    starts = np.flatnonzero(np.diff(scales, prepend=np.nan) != 0)
    for start, end in zip(starts, [*starts[1:], len(total)], strict=True):
        if scales[start] > 0:
            noisy[start:end] += draw(stream, float(scales[start]) * grid, end - start)
    return noisy


def step_key(secret: bytes, context: StepContext, purpose: str, binding: bytes = b"") -> bytes:
    """Return the 32-byte key of one purpose in one step; `binding` is what else the key depends on."""
    parts = (context.study, context.site, str(context.round), str(context.step), purpose, context.inputs)
    return derive_key(secret, *(part.encode() for part in parts), binding)


def keyed_digest(secret: bytes, purpose: str, *parts: bytes) -> str:
    """Return a digest (64 hex digits) that tells nothing about `parts` to whoever lacks the secret."""
    return hmac.new(derive_key(secret, b"digest", purpose.encode()), _framed(parts), hashlib.sha256).hexdigest()


def derive_key(secret: bytes, *context: bytes) -> bytes:
    """Return the 32-byte key that belongs to a context; parts are length-prefixed, so they cannot run together."""
    if len(secret) < 32:
        raise ValueError(f"a secret has at least 32 bytes. Found {len(secret)}.")
    return HKDF(hashes.SHA256(), length=32, salt=b"fedcall privacy v1", info=_framed(context)).derive(secret)


class Stream:
    """Random numbers from the ChaCha20 key stream of a single-use key."""

    def __init__(self, key: bytes) -> None:
        # The nonce is constant because a key is used for one stream only.
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def integers(self, count: int) -> np.ndarray:
        """Return uniform uint64 values, shape (count,)."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8")


def _framed(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
