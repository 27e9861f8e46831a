"""Lower bounds on what a mechanism leaks, from one run with many canaries.

Each canary took part with chance ½, on its own coin. Somebody who saw the release guessed of some canaries whether they
did. Differential privacy bounds how many of these guesses can be right; more right guesses contradict the claim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from fedcall.privacy.accounting.epsilon import compose, round_event
from fedcall.privacy.bisection import greatest
from fedcall.privacy.terms import PrivacyTerms

SHARES = (0.1, 0.3)
"""Shares of the canaries that are guessed; the rest is left out. All are tried, and the error is divided among them."""

LARGEST_EPSILON = 30.0
_DELTAS = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 1e-3, 1e-4, 1e-5)
_FEW_DELTAS = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-5)


@dataclass(frozen=True)
class Guesses:
    """`correct` of `made` guesses about `canaries` canaries were right."""

    canaries: int
    made: int
    correct: int


@dataclass(frozen=True)
class Curve:
    """Pairs (ε, δ) that hold for one mechanism all at once, float64: what it promises in full."""

    epsilons: np.ndarray
    deltas: np.ndarray

    def at(self, chance: np.ndarray | float) -> float:
        """Return f(1 - chance) for the trade-off function f: the least chance that `chance` can be traded for.

        Dong et al. 2022, proposition 2.5: f is the largest of 1 - δ - e^ε α and e^-ε (1 - δ - α) over all pairs.
        """
        first = 1 - self.deltas - np.exp(self.epsilons) * (1 - chance)
        second = np.exp(-self.epsilons) * (chance - self.deltas)
        return float(max(0.0, first.max(), second.max()))


def claimed_curve(terms: PrivacyTerms, rounds: int = 1) -> Curve:
    """Return what the accountant claims for `rounds` rounds under `terms`, at many deltas."""
    event = round_event(terms)
    # Each pair holds by itself, so fewer of them are only a weaker claim; with sampling each costs a second.
    deltas = _DELTAS if terms.sampling_rate == 1 else _FEW_DELTAS
    epsilons = np.array([compose([(event, rounds)], delta).pld for delta in deltas])
    finite = np.isfinite(epsilons)
    return Curve(np.append(epsilons[finite], 0.0), np.append(np.array(deltas)[finite], 1.0))


def guess(scores: np.ndarray, members: np.ndarray) -> list[Guesses]:
    """Guess "took part" for the highest scores and "did not" for as many of the lowest, for each of SHARES.

    Parameters
    ----------
    scores : float64, shape (canaries,)
        Higher where the guesser believes more in membership.
    members : bool, shape (canaries,)
        The truth.
    """
    order = np.argsort(-scores, kind="stable")
    found = []
    for share in SHARES:
        half = max(1, int(len(scores) * share / 2))
        correct = int(members[order[:half]].sum() + (~members[order[-half:]]).sum())
        found.append(Guesses(len(scores), 2 * half, correct))
    return found


def contradicts(curve: Curve, guesses: Sequence[Guesses], confidence: float) -> bool:
    """Say whether the guesses contradict a claimed curve at the given confidence (all of them together)."""
    error = (1 - confidence) / len(guesses)
    return any(_too_good(curve, one, error) for one in guesses)


def epsilon_bound(guesses: Sequence[Guesses], delta: float, confidence: float) -> float:
    """Return the largest ε such that (ε, δ)-DP is contradicted, whatever the mechanism: 0 if none is.

    Notes
    -----
    Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2.
    """
    error = (1 - confidence) / len(guesses)
    return max(_largest(partial(_is_contradicted, one, delta, error)) for one in guesses)


def _is_contradicted(guesses: Guesses, delta: float, error: float, epsilon: float) -> bool:
    return _p_value(guesses, epsilon, delta) <= error


def _p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Return a bound on the chance of at least so many right guesses about an (ε, δ)-DP mechanism."""
    chance, right = expit(epsilon), guesses.correct
    tail = float(binom.sf(right - 1, guesses.made, chance))
    if right == 0:
        return 1.0
    steps = np.arange(1, right + 1)
    excess = (binom.sf(right - steps - 1, guesses.made, chance) - tail) / steps
    return min(1.0, tail + 2 * guesses.canaries * delta * max(0.0, float(excess.max())))


def _too_good(curve: Curve, guesses: Guesses, error: float) -> bool:
    """Say whether so many right guesses have a chance below `error` under a curve.

    Mahloujifar, Melis and Chaudhuri 2024, "Auditing f-differential privacy in one run", algorithm 3, with two choices.
    """
    made, right = guesses.made, guesses.correct
    wins, losses = error * right / guesses.canaries, error * (made - right) / guesses.canaries
    for index in range(right - 1, -1, -1):
        fewest = max(losses, curve.at(wins))
        if fewest > losses:
            wins, losses = min(1.0, wins + index / (made - index) * (fewest - losses)), fewest
    return wins + losses > made / guesses.canaries


def _largest(holds: Callable[[float], bool]) -> float:
    """Return an ε for which `holds`, the largest to 10^-3; 0 if there is none."""
    return greatest(holds, 1e-3, LARGEST_EPSILON, 1e-3) if holds(1e-3) else 0.0
