"""One noisy number about a group of people: the sum of a bounded value of each, exact on a grid, with keyed noise."""

import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np

from fedcall.privacy.bisection import least
from fedcall.privacy.events import Event
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.terms import Mechanism

_SIGNIFICANT_DIGITS = 6  # so that every machine names the same noise, whatever the last bits of its error function


def grid_total(values: Iterable[float], bound: float) -> int:
    """Return the sum of values in grid points of `bound` / 2^24, each between -2^24 and 2^24.

    Each value is clipped to [-bound, bound] and truncated toward zero, so that one person, whatever the value, moves
    the sum by at most 2^24 points; a value that is not a number counts as 0.

    Raises
    ------
    ValueError
        If the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"bound must be positive. Found {bound}.")
    return sum(_grid_value(value, bound) for value in values)


def noisy_total(secret: bytes, context: StepContext, total: int, mechanism: Mechanism, multiplier: float) -> int:
    """Return a sum of `grid_total` with keyed noise of `multiplier` bounds, in grid points."""
    return int(noisy_sum(secret, context, np.array([total], dtype=np.int64), mechanism, multiplier)[0])


def noise_multiplier(mechanism: Mechanism, epsilon: float, delta: float) -> float:
    """Return the noise scale, in bounds, with which one sum over everybody is (epsilon, delta)-private.

    Laplace: b = 1 / epsilon, at every delta (Dwork et al. 2006). Gaussian: the smallest standard deviation, by the
    exact condition of Balle and Wang 2018, theorem 8. Rounded up to six digits.

    Raises
    ------
    ValueError
        If epsilon is not positive, or delta not in (0, 1) for Gaussian noise.
    """
    if not epsilon > 0 or not (mechanism == "laplace" or 0 < delta < 1):
        raise ValueError(f"epsilon must be positive and delta in (0, 1). Found {epsilon}, {delta}.")
    if mechanism == "laplace":
        return _rounded_up(1 / epsilon)
    low, high = 0.0, 1.0
    while _gaussian_delta(high, epsilon) > delta:
        low, high = high, 2 * high
    return _rounded_up(least(lambda sigma: _gaussian_delta(sigma, epsilon) <= delta, low, high, high * 2**-52))


def sum_event(mechanism: Mechanism, epsilon: float, delta: float) -> Event:
    """Return what one such sum does to each person in it: one step, without sampling."""
    return Event(
        unit="patient",
        mechanism=mechanism,
        noise_multiplier=noise_multiplier(mechanism, epsilon, delta),
        sampling_rate=1.0,
        steps=1,
    )


def _grid_value(value: float, bound: float) -> int:
    if math.isnan(value):
        return 0
    return math.trunc(min(1.0, max(-1.0, value / bound)) * GRID)


def _gaussian_delta(sigma: float, epsilon: float) -> float:
    cdf = NormalDist().cdf
    return cdf(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * cdf(-0.5 / sigma - epsilon * sigma)


def _rounded_up(value: float) -> float:
    places = _SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(value))
    rounded = round(value, places)
    return rounded if rounded >= value else round(rounded + 10.0**-places, places)
