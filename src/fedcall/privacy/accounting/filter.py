"""What several studies together cost a person: an RDP filter, because their terms are chosen after results.

Within one study the plan is fixed before its first round, so a PLD composes it (`epsilon.compose`). The terms of a
second study may depend on what the first one released: fully adaptive composition, for which Feldman and Zrnic 2021 and
Lécuyer 2021 prove this filter: at one order α that is fixed ahead, as long as the Rényi divergences that a person's
releases sum to stay at or below a budget ρ, everything together is (α, ρ)-RDP for that person, however each release was
chosen. A person's charges depend on nothing but that person's own history, so the filter may be kept for each person
apart, and whoever has reached the budget is left out. RDP becomes (ε, δ) by Canonne, Kamath and Steinke 2020.

The order has to be fixed ahead. It follows from the limit (ε, δ) and from what the person's first study does in a
round; for the limits of that first study, all is agreed before anything of the person is released. A limit that was
agreed later may have been chosen after results: it may use any order of a list of M, and pays for the choice with
δ / M (union bound over the orders). A person is bounded by PLD while there is one study, and by the filter once there
are two: at δ if it does not depend on the first study's unfinished results whether the second begins, else at 2 δ.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from fedcall.privacy.accounting.epsilon import Epsilon, compose, largest_loss
from fedcall.privacy.accounting.losses import event_rdp
from fedcall.privacy.events import Event
from fedcall.privacy.terms import Unit

ORDERS: tuple[float, ...] = tuple(
    float(round(1 + 2 ** (half / 2))) if half > 4 else 1 + 2 ** (half / 2) for half in range(-4, 15)
)
"""1.25 to 129, α − 1 in steps of √2; whole numbers where series are slow."""

Charge = tuple[str, Event, int]
"""A study's digest, what a round of it did, and in how many of its rounds a person took part."""


def cumulative_epsilon(
    charges: Iterable[Charge],
    delta: float,
    unit: Unit | None = None,
    cap: float | None = None,
    agreed_first: bool = True,
) -> Epsilon:
    """Return what all charges of a person cost: by PLD in one study, by the RDP filter over several.

    Parameters
    ----------
    charges : iterable of (str, Event, int)
        Study, event and number of rounds; the person's first study first.
    delta : float
    unit : "patient", "example" or None
        As for `compose`.
    cap : float, optional
        The limit that the result is compared with: it helps to fix the filter's order. Without one, the best order is
        taken, and paid for.
    agreed_first : bool
        Whether the cap was agreed before anything of the person was released.
    """
    charged = [(study, event, count) for study, event, count in charges if count]
    if len({study for study, _, _ in charged}) <= 1:
        return compose([(event, count) for _, event, count in charged], delta, unit)
    divergences, order = _divergences(charged, delta, unit, cap, agreed_first)
    bound = float(filter_epsilon(divergences, delta, order))
    return Epsilon(bound, bound, "RDP filter")


def cumulative_loss(
    charges: Iterable[Charge],
    chance: float,
    unit: Unit | None = None,
    cap: float | None = None,
    agreed_first: bool = True,
) -> float:
    """Return a privacy loss that all charges of a person pass with a probability of at most `chance`.

    As `epsilon.largest_loss` in one study. Over several: at order α, P(loss > D + log(1 / chance) / (α - 1)) is at most
    `chance` (Markov's inequality for exp((α - 1) loss); Mironov 2017, proposition 10). Parameters are those of
    `cumulative_epsilon`.
    """
    charged = [(study, event, count) for study, event, count in charges if count]
    if len({study for study, _, _ in charged}) <= 1:
        return largest_loss([(event, count) for _, event, count in charged], chance, unit)
    divergences, order = _divergences(charged, chance, unit, cap, agreed_first)
    orders = np.array(ORDERS)
    if order is not None:
        return float(divergences[order] + math.log(1 / chance) / (orders[order] - 1))
    return float(np.min(divergences + math.log(len(ORDERS) / chance) / (orders - 1)))


def _divergences(
    charged: Sequence[Charge], delta: float, unit: Unit | None, cap: float | None, agreed_first: bool
) -> tuple[np.ndarray, int | None]:
    """Return the summed divergences at ORDERS, and the place of the order that was fixed ahead, if one was."""
    first = charged[0][1]
    wanted = unit or first.unit
    if unit is None and any(event.unit != wanted for _, event, _ in charged):
        raise ValueError("events of unit 'patient' and 'example' have no common epsilon; say which unit is meant.")
    divergences = np.sum([event_rdp(event, wanted, ORDERS) * count for _, event, count in charged], axis=0)
    return divergences, filter_order(cap, delta, first, wanted) if cap is not None and agreed_first else None


@lru_cache(maxsize=4096)
def filter_order(cap: float, delta: float, first: Event, unit: Unit) -> int:
    """Return the place in ORDERS of a limit's order: the one at which the most rounds of the first event fit."""
    rounds = [
        (cap - tail) / divergence if 0 < divergence < math.inf else 0.0
        for tail, divergence in zip(_tails(delta), event_rdp(first, unit, ORDERS), strict=True)
    ]
    return int(np.argmax(rounds))


def filter_epsilon(divergences: np.ndarray, delta: float, order: int | None) -> np.ndarray:
    """Return the epsilons of summed divergences at ORDERS (first axis): at one order fixed ahead, or at the best one.

    Canonne, Kamath and Steinke 2020, proposition 12. The best order is paid for with delta / len(ORDERS).
    """
    if order is not None:
        bound = divergences[order] + _tails(delta)[order]
    else:
        tails = np.array(_tails(delta / len(ORDERS)))
        bound = np.min(divergences + tails.reshape((-1,) + (1,) * (divergences.ndim - 1)), axis=0)
    return np.asarray(np.maximum(0.0, bound))


def _tails(delta: float) -> list[float]:
    return [math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1) for order in ORDERS]
