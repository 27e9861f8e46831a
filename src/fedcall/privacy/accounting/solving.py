"""Which noise, how many rounds or which sampling rate a target epsilon allows, the other terms given."""

import math
from collections.abc import Callable

from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.terms import PrivacyTerms

MOST_ROUNDS = 100_000
LEAST_RATE = 1e-6


def rounds_for(terms: PrivacyTerms, epsilon: float) -> int:
    """Return how many rounds under `terms` cost at most `epsilon` (PLD); at most MOST_ROUNDS.

    Raises
    ------
    ValueError
        If epsilon is not positive.
    """
    _check(epsilon)
    return most_rounds(lambda rounds: study_epsilon(terms, rounds).pld <= epsilon, MOST_ROUNDS)


def most_rounds(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number of rounds in 0 … `most` that fits, where fewer always fit if more do.

    Examples
    --------
    >>> most_rounds(lambda rounds: rounds * 0.9 <= 4, most=100)
    4
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def sampling_rate_for(terms: PrivacyTerms, rounds: int, epsilon: float) -> float:
    """Return the largest sampling rate (to .1 %, rounded down) with which `rounds` rounds cost at most `epsilon`.

    Raises
    ------
    ValueError
        If epsilon is not positive, or no rate down to 10^-6 is small enough.
    """
    _check(epsilon)

    def fits(rate: float) -> bool:
        return study_epsilon(terms.model_copy(update={"sampling_rate": rate}), rounds).pld <= epsilon

    if fits(1.0):
        return 1.0
    if not fits(LEAST_RATE):
        raise ValueError(f"no sampling rate down to {LEAST_RATE:g} reaches epsilon {epsilon:g}.")
    low, high = LEAST_RATE, 1.0
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _check(epsilon: float) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive. Found {epsilon}.")
