"""What pooled noise protects from whom, and what pooling itself costs (docs/pooled-noise.md)."""

import math
from dataclasses import dataclass

from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.events import Event
from fedcall.privacy.mechanism.pooling import SUM_GRID, share_multiplier

MOST_NUMBERS = 10**9
"""More than any model of ours has: what pooling costs is told for so many."""


@dataclass(frozen=True)
class PooledEpsilon:
    """Three readings of one charge.

    Attributes
    ----------
    kept : to whoever sees nothing but opened sums
    to_a_site : to one of the sites, which knows its own share of the noise
    if_broken : to coordinator and all helpers together, if they look at a site's update with its share alone
    """

    kept: Epsilon
    to_a_site: Epsilon
    if_broken: Epsilon


def pooled_epsilon(event: Event, rounds: int, delta: float, tolerated_sites: int) -> PooledEpsilon:
    """Return what `rounds` rounds of an event with shared noise cost, by who looks.

    A site that tells its noise is one of the tolerated ones; where none are, it takes its own share off the sum.
    """
    shares = event.shares or 1
    kept = compose([(event, rounds)], delta)
    left = shares if tolerated_sites or shares == 1 else shares - 1
    without_one = event.model_copy(
        update={"noise_multiplier": event.noise_multiplier * math.sqrt(left / shares), "shares": None}
    )
    return PooledEpsilon(kept, compose([(without_one, rounds)], delta), compose([(event.alone(), rounds)], delta))


def log10_pooling_cost(noise_multiplier: float, shares: int, sums: int, numbers: int = MOST_NUMBERS) -> float | None:
    """Return log10 of what the sum of shares costs in epsilon beyond one discrete Gaussian of their variance.

    Parameters
    ----------
    noise_multiplier : float
        Of the sum, over the clip norm.
    shares : int
        That make it; one is no sum, and costs nothing (None).
    sums, numbers : int
        Sums that are opened, and the numbers in each.

    Notes
    -----
    Kairouz, Liu and Steinke 2021, theorem 1: the chances of any number differ by at most a factor of exp(±τ),
    τ = 10 Σ exp(-2π²σ² k/(k+1)) over k = 1 … shares - 1, at most 10 (shares - 1) exp(-π²σ²), for shares of σ grid
    points. So `sums` sums of `numbers` numbers cost 2 τ · sums · numbers more.
    """
    if shares < 2:
        return None
    points = share_multiplier(noise_multiplier, shares) * SUM_GRID
    log_tau = math.log(10 * (shares - 1)) - (math.pi * points) ** 2
    return (log_tau + math.log(2 * sums * numbers)) / math.log(10)
