"""What the steps of several rounds released, looked at from outside: is there noise of the agreed size, and is it new?

Nothing of the training path is asked, and no sum is known: a sum of clipped units is at most as long as its units are
many. Noise plus any such sum is seldom shorter than noise alone, so too short a release shows missing noise; releases
of different steps and rounds, and the parts of one, are alike only as far as the sums can make them.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy.stats import chi2, gamma, norm

from fedcall.privacy.mechanism.noise_checks import FALSE_ALARM
from fedcall.privacy.terms import Mechanism

FEWEST = 64  # numbers of a tensor that can show anything


def find_fault(
    steps: np.ndarray, tensors: Mapping[str, int], mechanism: Mechanism, noise_multiplier: float, units: int
) -> str | None:
    """Return what contradicts the claimed noise, in a sentence; None if nothing does.

    Parameters
    ----------
    steps : float64, shape (steps, numbers)
        Released sums of all steps of all rounds of one site, in clip norms.
    tensors : mapping of str to int
        Numbers of each tensor, in their order.
    mechanism : "gaussian" or "laplace"
    noise_multiplier : float
        Claimed: standard deviation, or scale b, in clip norms.
    units : int
        At the site, at most: bounds the length of every sum.

    Notes
    -----
    Sound releases are contradicted with a chance below FALSE_ALARM: every bound is a quantile of the claimed noise at
    FALSE_ALARM over the number of tests, and leaves room for the longest sum. For Laplace noise, products are taken to
    be normal with half as much deviation again.
    """
    count, size = steps.shape
    chance = FALSE_ALARM / (count * (len(tensors) + count + size + 1))
    deviation = noise_multiplier * (1.0 if mechanism == "gaussian" else 1.5 * math.sqrt(2))
    room = float(norm.isf(chance / 2)) * deviation + units  # of a product with a vector of length 1
    for number, release in enumerate(steps, start=1):
        if short := _short_tensor(release, tensors, mechanism, noise_multiplier, chance):
            return f"step {number}: noise is missing in tensor '{short}'"
        if abs(release.sum()) > room * math.sqrt(size):
            return f"step {number}: the noise has one sign"
        length = float(np.linalg.norm(release))
        if _largest_echo(release) > 2 * room * length:
            return f"step {number}: the noise repeats itself"
        if number > 1 and np.abs(steps[: number - 1] @ release).max() > room * length + units * length:
            return f"step {number}: the noise is that of an earlier step"
    return None


def released_sums(weights: np.ndarray, learning_rate: float, divisor: float, clip_norm: float) -> np.ndarray:
    """Return the sums, in clip norms, that moved the weights from each step to the next: float64, one row a step."""
    return np.array([before - after for before, after in pairwise(weights)]) * (divisor / (learning_rate * clip_norm))


def _short_tensor(
    release: np.ndarray, tensors: Mapping[str, int], mechanism: Mechanism, noise: float, chance: float
) -> str | None:
    start = 0
    for name, size in tensors.items():
        part = release[start : start + size] / noise
        start += size
        if size < FEWEST:
            continue
        if mechanism == "gaussian":
            is_short = float((part**2).sum()) < chi2.ppf(chance, size) * (1 - 1e-3)
        else:
            is_short = float(np.abs(part).sum()) < gamma.ppf(chance, size) * (1 - 1e-3)
        if is_short:
            return name
    return None


def _largest_echo(release: np.ndarray) -> float:
    """Return the largest product of a release with itself, moved on by any number of places."""
    spectrum = np.fft.rfft(release, 2 * len(release))
    products = np.fft.irfft(np.abs(spectrum) ** 2)[1 : len(release) - FEWEST]
    return float(np.abs(products).max(initial=0.0))
