"""Keyed noise: reproducible by whoever holds the site's secret, unpredictable to everyone else.

A key is derived for every purpose from the secret and the full context of a step (HKDF-SHA256, RFC 5869); the key of
noise is also bound to the sum it hides, so equal inputs give the same release and any other input independent noise
(design §6.4; the idea of synthetic initialisation vectors, RFC 5297). Each key makes one ChaCha20 stream (RFC 8439).
"""

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.terms import Mechanism

MAX_NOISE_MULTIPLIER = 1e6  # keeps noise below 2^53 grid points, where float64 still counts integers


@dataclass(frozen=True)
class StepContext:
    """Where a random draw belongs: no two steps of any study share a context."""

    study: str  # digest of the study
    site: str
    round: int
    step: int  # within the round


def noisy_sum(
    secret: bytes,
    context: StepContext,
    total: np.ndarray,
    mechanism: Mechanism,
    scale: float | np.ndarray,
    unit: float = 1.0,
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
        Noise multiplier: standard deviation (gaussian) or scale b (laplace), in clip norms. 0 adds nothing.
    unit : float
        What a sum of 2^24 grid points stands for, if that is no constant of the study: the noise is bound to it too.

    Returns
    -------
    int64, shape (parameters,)
        `total` + rint(noise), in grid points.

    Notes
    -----
    `total` is an integer, so total + rint(noise) = rint(total + noise): post-processing of the continuous mechanism,
    accounted as such. The support does not depend on `total`, which closes the floating-point hole of Mironov 2012.
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
    if mechanism == "gaussian":
        return total + stream.rounded_gaussian(len(total), scale * GRID)
    return total + stream.rounded_laplace(len(total), scale * GRID)


def step_key(secret: bytes, context: StepContext, purpose: str, binding: bytes = b"") -> bytes:
    """Return the 32-byte key of one purpose in one step; `binding` is what else the key depends on."""
    parts = (context.study, context.site, str(context.round), str(context.step), purpose)
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

    def uniforms(self, count: int) -> np.ndarray:
        """Return float64 values uniform on the open interval (0, 1): (k + ½) / 2^52."""
        bits = (self.integers(count) >> np.uint64(12)).astype(np.float64)
        return (bits + 0.5) * 2.0**-52

    def gaussian(self, count: int) -> np.ndarray:
        """Return standard normal float64 values, shape (count,), by Box and Muller 1958.

        The largest is √(2 · 53 · ln 2) = 8.57; what is cut off has probability below 10^-16, far below any δ here.
        """
        pairs = (count + 1) // 2
        radius = np.sqrt(-2.0 * np.log(self.uniforms(pairs)))
        angle = 2.0 * np.pi * self.uniforms(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]

    def laplace(self, count: int) -> np.ndarray:
        """Return Laplace float64 values of scale 1, shape (count,), by the inverse distribution function."""
        bits = self.integers(count)
        sign = np.where(bits & np.uint64(1), 1.0, -1.0)  # the lowest bit is not part of the uniform below
        magnitude = -np.log(((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)
        return sign * magnitude

    def rounded_gaussian(self, count: int, sigma: float | np.ndarray) -> np.ndarray:
        """Return rint(N(0, sigma²)) as int64, shape (count,); `sigma` is one for all, or one for each."""
        return np.rint(self.gaussian(count) * sigma).astype(np.int64)

    def rounded_laplace(self, count: int, scale: float | np.ndarray) -> np.ndarray:
        """Return rint(Laplace(scale)) as int64, shape (count,); `scale` is one for all, or one for each."""
        return np.rint(self.laplace(count) * scale).astype(np.int64)


def _framed(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
