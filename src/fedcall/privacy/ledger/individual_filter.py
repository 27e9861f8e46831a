"""Who may still be charged: decided for each person from nothing but that person's own charges and limits.

That is an individual privacy filter (Feldman and Zrnic 2021): leaving out whoever has spent the budget, and saying so
to nobody, keeps every person's limit, because whether somebody is left out depends on that person alone. What a round
releases is then distributed the same with the person as without.
"""

import numpy as np

from fedcall.privacy.accounting.epsilon import compose, exceeds
from fedcall.privacy.accounting.filter import ORDERS, filter_epsilon, filter_order
from fedcall.privacy.accounting.losses import event_rdp
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.histories import NOBODY, Histories
from fedcall.privacy.ledger.limits import Limit
from fedcall.privacy.terms import Unit

PEOPLE_AT_ONCE = 2048  # so that tables of a large hospital take little memory


def may_be_charged(histories: Histories, people: np.ndarray, study: str, event: Event) -> np.ndarray:
    """Say who keeps every limit, each at its own delta and unit, after one more round.

    Parameters
    ----------
    histories : Histories
        With the limits of this round agreed for `people` already (`Histories.agree`).
    people : int64, shape (people,)
        Columns of the histories.
    study : str
    event : Event

    Returns
    -------
    bool, shape (people,)
        The same as `Standing.is_within_limits` of each, computed for all at once.
    """
    added = histories.plan(study, event.to_json())
    events = [Event.from_json(text) for _, text in histories.plans]
    own = np.array([of == study for of, _ in histories.plans])
    costs: dict[tuple[Unit, bool], np.ndarray] = {}
    if histories.counts[~own][:, people].any():
        for unit, if_broken in {(limit.unit, limit.if_broken) for limit in histories.limits}:
            seen = _seen(events, if_broken)
            costs[unit, if_broken] = np.array([event_rdp(one, unit, ORDERS) for one in seen])  # (plans, orders)
    allowed = np.ones(len(people), bool)
    for start in range(0, len(people), PEOPLE_AT_ONCE):
        part = slice(start, start + PEOPLE_AT_ONCE)
        counts = histories.counts[:, people[part]]
        counts[added] += 1
        first = np.where(histories.first[people[part]] == NOBODY, added, histories.first[people[part]])
        allowed[part] = _within_limits(histories, people[part], counts, first, own, events, costs)
    return allowed


def _within_limits(
    histories: Histories,
    people: np.ndarray,
    counts: np.ndarray,
    first: np.ndarray,
    own: np.ndarray,
    events: list[Event],
    costs: dict[tuple[Unit, bool], np.ndarray],
) -> np.ndarray:
    in_other_studies = counts[~own].any(axis=0)
    holds, is_first = histories.holds[:, people], histories.is_first[:, people]
    divergences = {kind: _divergences(counts, cost) for kind, cost in costs.items()}
    allowed = np.ones(len(people), bool)
    for place, limit in enumerate(histories.limits):
        implying = [other for other, one in enumerate(histories.limits) if one.implies(limit)]
        judged = holds[place] & (is_first[place] | ~is_first[implying].any(axis=0))
        alone, several = judged & ~in_other_studies, judged & in_other_studies
        seen = _seen(events, limit.if_broken)
        if alone.any():
            allowed[alone] &= _within_by_pld(counts[:, alone], own, seen, limit)
        if several.any():
            spent = divergences[limit.unit, limit.if_broken][:, several]
            allowed[several] &= _within_by_filter(spent, first[several], is_first[place, several], seen, limit)
    return allowed


def _seen(events: list[Event], if_broken: bool) -> list[Event]:
    """Return what events cost, as promised or if single updates are seen."""
    return [event.alone() for event in events] if if_broken else events


def _within_by_pld(counts: np.ndarray, own: np.ndarray, events: list[Event], limit: Limit) -> np.ndarray:
    """Judge people who are in one study only, whose plan is fixed."""
    plans = np.flatnonzero(own)
    table, places = np.unique(counts[plans].T, axis=0, return_inverse=True)
    verdicts = [
        not compose(
            [(events[plan], int(count)) for plan, count in zip(plans, row, strict=True)], limit.delta, limit.unit
        ).exceeds(limit.epsilon)
        for row in table
    ]
    return np.array(verdicts)[places.ravel()]


def _within_by_filter(
    divergences: np.ndarray, first: np.ndarray, is_first: np.ndarray, events: list[Event], limit: Limit
) -> np.ndarray:
    """Judge people who are in several studies, whose terms were chosen one after the other."""
    spent = filter_epsilon(divergences, limit.delta, None)
    for plan in np.unique(first[is_first]):
        who = is_first & (first == plan)
        order = filter_order(limit.epsilon, limit.delta, events[plan], limit.unit)
        spent[who] = filter_epsilon(divergences[:, who], limit.delta, order)
    return np.array([not exceeds(float(one), limit.epsilon) for one in spent])


def _divergences(counts: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the summed divergences at every order, shape (orders, people); infinite where an event has no bound."""
    endless = ~np.isfinite(costs)
    total = np.where(endless, 0.0, costs).T @ counts  # 0 · ∞ would not be nobody's
    for order, plans in enumerate(endless.T):
        if plans.any():
            total[order, counts[plans].any(axis=0)] = np.inf
    return np.asarray(total)
