"""From events to epsilon: privacy loss distributions (PLD), with Rényi differential privacy (RDP) always beside them.

Adjacency is "add or remove one unit". PLD is the tighter bound and the number every cap is compared with; it is
computed pessimistically (rounding only ever raises it). RDP is a second, independent bound; far apart, one is wrong.
The distributions and curves themselves are in `losses`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from fedcall.privacy.accounting.losses import (
    ORDERS,
    Steps,
    composed_pld,
    group_pld,
    loss_interval,
    loss_quantile,
    rdp_delta,
    step_rdp,
    steps_of,
)
from fedcall.privacy.bisection import least
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.terms import PrivacyTerms, Unit

__all__ = [
    "Epsilon",
    "compose",
    "exceeds",
    "group_epsilon",
    "largest_loss",
    "noise_multiplier_for",
    "round_event",
    "study_epsilon",
]

LOSS_ERROR = 0.002  # of a loss that is passed with a given chance, relative to epsilon by RDP


@dataclass(frozen=True)
class Epsilon:
    """Two upper bounds on one epsilon; infinite without noise.

    `pld` is the number that caps are compared with. Over several studies no PLD is proven (terms are chosen after
    results), so both are then the bound of the RDP filter, and `by` says so (`accounting.filter`).
    """

    pld: float
    rdp: float
    by: Literal["PLD", "RDP filter"] = "PLD"

    @property
    def is_finite(self) -> bool:
        """Whether anything is guaranteed at all."""
        return math.isfinite(self.pld)

    def exceeds(self, cap: float | None) -> bool:
        """Say whether the PLD bound passes a cap; no cap is never passed."""
        return exceeds(self.pld, cap)


def exceeds(epsilon: float, cap: float | None) -> bool:
    """Say whether an epsilon passes a cap: the one comparison there is. No cap is never passed; no number always is."""
    return cap is not None and not epsilon <= cap


def study_epsilon(terms: PrivacyTerms, rounds: int) -> Epsilon:
    """Return what `rounds` rounds under `terms` cost a unit, at the terms' delta."""
    return compose([(round_event(terms), rounds)], terms.delta)


def compose(events: Iterable[tuple[Event, int]], delta: float, unit: Unit | None = None) -> Epsilon:
    """Return the epsilon of all events together.

    Parameters
    ----------
    events : iterable of (Event, int)
        Each event with the number of rounds it happened in. None at all cost nothing.
    delta : float
        In (0, 1).
    unit : "patient", "example" or None
        What the epsilon protects; None if all events have the same unit.

    Returns
    -------
    Epsilon
        At unit "patient", an example-level event costs infinity: it bounds each row, and nothing bounds the number
        of rows of a patient. At unit "example", a patient-level event counts as the substitution of a patient,
        because adding one row changes a patient's clipped contribution by up to two clip norms.

    Raises
    ------
    ValueError
        If delta is out of range, a count is negative, or units differ and `unit` does not say which is meant.
    """
    parts = _bounded_steps(events, delta, unit)
    return Epsilon(math.inf, math.inf) if parts is None else _epsilon(parts, delta)


def largest_loss(events: Iterable[tuple[Event, int]], chance: float, unit: Unit | None = None) -> float:
    """Return a privacy loss that all events together pass with a probability of at most `chance`; infinite if nothing
    bounds it.

    The loss is the logarithm of how many times likelier the releases are with the unit than without it (or the other
    way round): an attacker's odds grow by its exponential. It is larger than epsilon at a delta of `chance`: that
    delta limits how often *and by how much* losses pass epsilon, together, so more of them do than `chance`.

    Parameters and errors are those of `compose`.
    """
    parts = _bounded_steps(events, chance, unit)
    if parts is None:
        return math.inf
    if not parts:
        return 0.0
    rdp = _epsilon(parts, chance).rdp
    total = sum(part.total for part in parts)
    interval = min(loss_interval(rdp), max(1e-5, 2 * LOSS_ERROR * rdp / total)) if math.isfinite(rdp) else 1.0
    try:
        return loss_quantile(parts, chance, interval)
    except (ValueError, ArithmeticError, MemoryError):
        curve = np.sum([step_rdp(*part[:4]) * part.total for part in parts], axis=0)
        return float(np.min(curve + math.log(1 / chance) / (np.array(ORDERS) - 1)))


def _bounded_steps(events: Iterable[tuple[Event, int]], delta: float, unit: Unit | None) -> tuple[Steps, ...] | None:
    """Return what happened as equal noisy sums; None if nothing bounds it."""
    events = [(event, count) for event, count in events if count]
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1). Found {delta}.")
    if any(count < 0 for _, count in events):
        raise ValueError("a count of rounds must not be negative.")
    units = {event.unit for event, _ in events}
    if len(units) > 1 and unit is None:
        raise ValueError("events of unit 'patient' and 'example' have no common epsilon; say which unit is meant.")
    wanted = unit or (units.pop() if units else "patient")
    parts = steps_of(events, wanted)
    if any(part.noise_multiplier == 0 for part in parts) or (
        wanted == "patient" and any(event.unit == "example" for event, _ in events)
    ):
        return None
    return parts


def group_epsilon(events: Iterable[tuple[Event, int]], delta: float, size: int) -> Epsilon:
    """Return the epsilon of `size` units together, for example a family, from events of one unit.

    Notes
    -----
    Relatives share alleles, so a family is the smallest group worth naming. Units are sampled independently, so a
    group of k moves a Gaussian sum by at most Binomial(k, q) clip norms: PLD of a mixture of Gaussians (Schuchardt et
    al. 2024). RDP, and Laplace, use the generic conversion of an (ε, δ(ε)) curve for one unit into
    (kε, δ(ε) (e^kε − 1)/(e^ε − 1)) for k (Vadhan 2017, lemma 2.2), which is looser.
    """
    events = [(event, count) for event, count in events if count]
    if size < 1:
        raise ValueError(f"a group has at least one unit. Found {size}.")
    single = compose(events, delta)
    if size == 1 or not single.is_finite or not events:
        return single
    parts = steps_of(events, events[0][0].unit)
    curve = np.sum([step_rdp(*part[:4]) * part.total for part in parts], axis=0)
    rdp = _group_bound(lambda epsilon: rdp_delta(curve, epsilon), single.rdp, delta, size)
    if all(part.mechanism == "gaussian" for part in parts):
        pld = float(group_pld(parts, size, 8 * loss_interval(rdp)).get_epsilon_for_delta(delta))
    else:
        curve_pld = composed_pld(parts, loss_interval(single.rdp))
        pld = _group_bound(lambda epsilon: float(curve_pld.get_delta_for_epsilon(epsilon)), single.pld, delta, size)
    return Epsilon(min(pld, rdp), rdp)


def noise_multiplier_for(terms: PrivacyTerms, rounds: int, epsilon: float) -> float:
    """Return the least noise multiplier (to .1 %, rounded up) with which `rounds` rounds cost at most `epsilon`.

    Raises
    ------
    ValueError
        If epsilon is not positive, or no multiplier up to 10^5 is enough.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive. Found {epsilon}.")

    def cost(multiplier: float) -> float:
        return study_epsilon(terms.model_copy(update={"noise_multiplier": multiplier}), rounds).pld

    low, high = 1e-2, 1.0
    while exceeds(cost(high), epsilon):
        low, high = high, 2 * high
        if high > 1e5:
            raise ValueError(f"no noise multiplier up to 1e5 reaches epsilon {epsilon:g}.")
    found = least(lambda multiplier: not exceeds(cost(multiplier), epsilon), low, high, 5e-4, relative=True)
    return math.ceil(found * 1e4) / 1e4


@lru_cache(maxsize=4096)
def _epsilon(parts: tuple[Steps, ...], delta: float) -> Epsilon:
    if not parts:
        return Epsilon(0.0, 0.0)
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    rdp_curve = np.sum([step_rdp(*part[:4]) * part.total for part in parts], axis=0)
    rdp = float(compute_epsilon(ORDERS, rdp_curve, delta)[0]) if np.isfinite(rdp_curve).any() else math.inf
    try:
        with np.errstate(over="ignore"):
            pld = float(composed_pld(parts, loss_interval(rdp)).get_epsilon_for_delta(delta))
    except (ValueError, ArithmeticError, MemoryError):
        pld = math.nan
    return Epsilon(pld if 0 <= pld < math.inf else rdp, rdp)


def _group_bound(delta_of: Callable[[float], float], start: float, delta: float, size: int) -> float:
    def group_delta(epsilon: float) -> float:
        # log of δ(ε) (e^kε − 1)/(e^ε − 1), which is at most δ(ε) k e^((k−1)ε)
        value = delta_of(epsilon)
        return math.log(value) + math.log(size) + (size - 1) * epsilon if value > 0 else -math.inf

    low, high = 0.0, max(start, 1e-3)
    while group_delta(high) > math.log(delta):
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    return size * least(lambda epsilon: group_delta(epsilon) <= math.log(delta), low, high, 1e-4 * high)
