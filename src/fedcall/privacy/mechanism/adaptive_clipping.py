"""Adaptive clipping: the clip norm follows a noisy quantile of the units' norms, at no further cost in epsilon.

Besides the sum of clipped units, a step measures which share of its units is shorter than the clip norm, and moves the
clip norm towards the norm that `target_quantile` of the units stay below (Andrew et al. 2021, algorithm 1). A unit
counts +½ or −½, so adding one moves the count by ½. Sum and count are one mechanism (theorem 1 there): with noise
multipliers s for the sum and c for the count, each relative to its sensitivity, it is as private as one sum with
(s^-p + c^-p)^(-1/p), where p is 2 for gaussian and 1 for laplace noise. The terms' `noise_multiplier` is that number:
what is accounted does not change, and the sum carries a little more noise to pay for the count.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import Adaptation, PrivacyTerms

MOST_DRIFT = math.log(1000.0)  # the clip norm stays within this factor of the terms' clip_norm
LARGEST_SHARE = 0.5  # of the budget that the count may take


class ClipTrace(Document):
    """What adaptive clipping released in a round: a private output, like the update itself."""

    start: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="Clip norm of the round's first step")
    shares: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(
        description="Noisy share, in each step, of the units that were shorter than the clip norm."
    )


def clip_norms(terms: PrivacyTerms, trace: ClipTrace) -> tuple[float, ...]:
    """Return the clip norm of every step of a round and, last, the one the next round starts from."""
    norms = [trace.start]
    for share in trace.shares:
        norms.append(next_clip_norm(terms, norms[-1], share))
    return tuple(norms)


def next_clip_norm(terms: PrivacyTerms, clip_norm: float, share: float) -> float:
    """Return the clip norm after a step in which the noisy share `share` of the units was shorter than `clip_norm`."""
    adaptation = _adaptation(terms)
    drift = math.log(clip_norm / terms.clip_norm) + adaptation.learning_rate * (adaptation.target_quantile - share)
    return terms.clip_norm * math.exp(min(max(drift, -MOST_DRIFT), MOST_DRIFT))


def noisy_share(count: int, grid: int, terms: PrivacyTerms, units: int) -> float:
    """Return the share that a noisy count means; `count` is in units of ½ / `grid`, centred on one half."""
    return 0.5 + count / (2 * grid) / (terms.sampling_rate * units)


def count_multiplier(terms: PrivacyTerms, units: int) -> float:
    """Return the noise scale of the count over its sensitivity of ½, for `units` declared units at a site."""
    return 2 * _adaptation(terms).quantile_noise * terms.sampling_rate * units


def sum_multiplier(terms: PrivacyTerms, units: int) -> float:
    """Return the noise scale of the sum over the clip norm: the terms' own, or more to pay for the count.

    Raises
    ------
    ValueError
        If the count is so precise that it takes more than half of the budget.
    """
    if terms.clipping == "fixed" or terms.noise_multiplier == 0:
        return terms.noise_multiplier
    share = count_share(terms, units)
    if share > LARGEST_SHARE:
        drawn = terms.sampling_rate * units
        needed = terms.noise_multiplier / LARGEST_SHARE ** (1 / _power(terms)) / (2 * _adaptation(terms).quantile_noise)
        raise ValueError(
            f"clipping 'adaptive' is infeasible: {drawn:.4g} {terms.unit}s are expected in a step, and to measure their"
            f" quantile to {_adaptation(terms).quantile_noise:g} takes {needed:.4g} or more at noise_multiplier"
            f" {terms.noise_multiplier:g}; use clipping: fixed, more {terms.unit}s, or a larger"
            " adaptation.quantile_noise"
        )
    multiplier: float = terms.noise_multiplier * (1 - share) ** (-1 / _power(terms))
    return multiplier


def count_share(terms: PrivacyTerms, units: int) -> float:
    """Return the share of the budget that the count takes, in (0, ∞); more than 1 can never be afforded."""
    if terms.clipping == "fixed":
        return 0.0
    return (terms.noise_multiplier / count_multiplier(terms, units)) ** _power(terms)


def step_clip_norms(terms: PrivacyTerms, trace: ClipTrace | None) -> Sequence[float]:
    """Return the clip norm of every step of a round, whichever way it is clipped."""
    if trace is None:
        return (terms.clip_norm,) * terms.steps_per_round
    return clip_norms(terms, trace)[:-1]


def _power(terms: PrivacyTerms) -> int:
    return 2 if terms.mechanism == "gaussian" else 1


def _adaptation(terms: PrivacyTerms) -> Adaptation:
    if terms.adaptation is None:
        raise ValueError("these terms clip at a fixed norm.")
    return terms.adaptation
