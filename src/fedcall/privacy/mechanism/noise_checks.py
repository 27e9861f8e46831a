"""Does noise look like what is claimed? Tests of numbers, which know nothing of how the numbers were made.

Sound noise fails one of all tests of a round with a chance below `FALSE_ALARM`. The bounds are exact quantiles of the
claimed distribution (chi-square, gamma, normal, binomial), so this is a theorem and no experience.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from fedcall.errors import PrivacyRefusal
from fedcall.privacy.terms import Mechanism

FALSE_ALARM = 1e-12
"""Chance that a sound round is refused, all tests together."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of the claimed distribution at which the values are counted."""

REMEMBERED = 32  # earlier steps that a step is compared with, besides the first
COMPARED = 4096  # numbers of each step that are compared with other steps
_EQUAL = 1e-5  # in noise scales: closer than sums in float32 tell numbers apart
_FEWEST = 16  # numbers from which on equal values are no chance
_MANY = 1024  # numbers from which on noise that comes again has a product far beyond what chance gives
_REPORT = "nothing was released; do not train with this installation, and report it"


class NoiseChecks:
    """Tests of the noise of one round, step by step.

    Parameters
    ----------
    mechanism : "gaussian" or "laplace"
    tensors : mapping of str to int
        Numbers of each tensor, in the order in which they come.
    steps : int
        Of the round.
    points : float, optional
        Grid points per noise scale, where the grid is so coarse that sound noise has equal numbers.
    """

    def __init__(
        self, mechanism: Mechanism, tensors: Mapping[str, int], steps: int, points: float | None = None
    ) -> None:
        self._mechanism, self._tensors, self._points = mechanism, dict(tensors), points
        tests = (2 + 2 * len(SHARES)) * len(tensors) + 2 * min(steps, REMEMBERED + 1) + 2
        self._chance = FALSE_ALARM / (steps * tests)
        size = sum(tensors.values())
        self._compared = slice(0, COMPARED * max(1, size // COMPARED), max(1, size // COMPARED))
        self._kept = np.empty((REMEMBERED + 1, len(range(size)[self._compared])))  # the first step's, and the newest
        self._steps = 0

    def check(self, where: str, noise: np.ndarray) -> None:
        """Refuse noise that is not of the claimed scale and shape, that repeats itself, or that came before.

        Parameters
        ----------
        where : str
            Round and step, for the message.
        noise : float64, shape (numbers,)
            Noise of a step, over its claimed scale.

        Raises
        ------
        PrivacyRefusal
        """
        start = 0
        for name, size in self._tensors.items():
            self._check_tensor(f"{where}, tensor '{name}'", noise[start : start + size])
            start += size
        self._check_repetition(where, noise)

    def _check_tensor(self, where: str, values: np.ndarray) -> None:
        low, high = _energy_bounds(self._mechanism, len(values), self._chance)
        energy = float((values**2).sum() if self._mechanism == "gaussian" else np.abs(values).sum())
        if not low <= energy <= high:
            expected = len(values)
            scale = math.sqrt(energy / expected) if self._mechanism == "gaussian" else energy / expected
            raise PrivacyRefusal(f"{where}: noise of {scale:.3g} times the agreed scale was seen; {_REPORT}")
        # A whole number at a quantile may fall to either side of it.
        slack = 0.0 if self._points is None else 1 + len(values) / self._points
        for quantile, fewest, most in _count_bounds(self._mechanism, len(values), self._chance):
            if not fewest - slack <= np.count_nonzero(values < quantile) <= most + slack:
                raise PrivacyRefusal(f"{where}: the noise is not {self._mechanism}; {_REPORT}")

    def _check_repetition(self, where: str, noise: np.ndarray) -> None:
        if self._points is not None:
            different = len(np.unique(np.rint(noise * self._points)))
            if different < _fewest_different(len(noise), self._points, self._chance):
                raise PrivacyRefusal(f"{where}: numbers share the same noise; {_REPORT}")
        elif len(noise) >= _FEWEST:
            ordered = np.sort(noise)
            gaps = ordered[1:] - ordered[:-1]
            # Of independent numbers, about n _EQUAL in a hundred thousand are so close; a quarter never are.
            if np.count_nonzero(gaps < _EQUAL) > len(noise) / 4:
                raise PrivacyRefusal(f"{where}: numbers share the same noise; {_REPORT}")
        compared = noise[self._compared]
        others = self._kept[: min(self._steps, len(self._kept))]
        if len(others):
            products = np.abs(others @ compared)
            largest = _product_bound(self._mechanism, compared, self._chance)
            # Of many numbers the product says it; few may be equal and their product still be no surprise.
            is_few = _FEWEST <= len(compared) < _MANY
            alike = is_few and (np.abs(others - compared).max(axis=1) < 1e-3).any()
            if alike or products.max() > largest:
                raise PrivacyRefusal(f"{where}: the noise of an earlier step is in it; {_REPORT}")
        self._kept[self._steps if self._steps <= REMEMBERED else 1 + (self._steps - 1) % REMEMBERED] = compared
        self._steps += 1


def check_draws(where: str, drawn: int, could: int, rate: float) -> None:
    """Refuse if `drawn` of `could` chances to take part is not what a sampling rate gives (binomial, FALSE_ALARM)."""
    from scipy.stats import binom

    if could and not binom.ppf(FALSE_ALARM / 2, could, rate) <= drawn <= binom.isf(FALSE_ALARM / 2, could, rate):
        raise PrivacyRefusal(
            f"{where}: {drawn / could:.3g} of the units took part in a step, agreed is a sampling rate of {rate:g};"
            f" {_REPORT}"
        )


def check_agreement(where: str, same: int, compared: int, rate: float) -> None:
    """Refuse if `same` of `compared` coins fell as in the step before, more than independent coins do."""
    from scipy.stats import binom

    if 0 < rate < 1 and compared and same > binom.isf(FALSE_ALARM, compared, rate**2 + (1 - rate) ** 2):
        raise PrivacyRefusal(f"{where}: steps drew the same units again and again; {_REPORT}")


@lru_cache(maxsize=64)
def _fewest_different(size: int, points: float, chance: float) -> float:
    """Return a lower bound on the different numbers among `size` whole Gaussian ones of `points` points.

    Their number has the expectation Σ 1 - (1 - p)^n over the whole numbers, and changes by at most one with each of n
    independent draws (McDiarmid 1989).
    """
    places = np.arange(-math.ceil(8 * points), math.ceil(8 * points) + 1)
    chances = np.exp(-((places / points) ** 2) / 2) / (points * math.sqrt(2 * math.pi))
    expected = float(-np.expm1(size * np.log1p(-np.minimum(chances, 0.5))).sum())
    return expected * (1 - 1e-6) - math.sqrt(size * math.log(1 / chance) / 2)


@lru_cache(maxsize=4096)
def _energy_bounds(mechanism: Mechanism, size: int, chance: float) -> tuple[float, float]:
    from scipy.stats import chi2, gamma

    distribution = chi2(size) if mechanism == "gaussian" else gamma(size)
    # Discrete noise on the grid, and float32 on its way out, move a sum of squares by parts in 10^6.
    return float(distribution.ppf(chance)) * (1 - 1e-5), float(distribution.isf(chance)) * (1 + 1e-5)


@lru_cache(maxsize=4096)
def _count_bounds(mechanism: Mechanism, size: int, chance: float) -> tuple[tuple[float, float, float], ...]:
    from scipy.stats import binom, laplace, norm

    quantiles = (norm if mechanism == "gaussian" else laplace).ppf(SHARES)
    return tuple(
        (float(quantile), float(binom.ppf(chance, size, share)) - 1, float(binom.isf(chance, size, share)) + 1)
        for quantile, share in zip(quantiles, SHARES, strict=True)
    )


def _product_bound(mechanism: Mechanism, values: np.ndarray, chance: float) -> float:
    """Return what the inner product of independent noise with `values` stays below.

    Gaussian: normal with the length of `values`. Laplace: log E exp(s Σ v x) ≤ 2 s² Σ v² for s max |v| ≤ 1/√2.
    """
    length = float(np.linalg.norm(values))
    if mechanism == "gaussian":
        return _normal_quantile(chance / 2) * length
    tail = math.log(2 / chance)
    slope = min(math.sqrt(tail / 2) / length, 1 / (math.sqrt(2) * float(np.abs(values).max())))
    return tail / slope + 2 * slope * length**2


@lru_cache(maxsize=256)
def _normal_quantile(chance: float) -> float:
    from scipy.stats import norm

    return float(norm.isf(chance))
