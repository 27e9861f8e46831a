"""How much of a study the people of a ledger can still afford. It depends on who took part in what: it stays home."""

import math
from typing import Literal

from pydantic import BaseModel

from fedcall.privacy.bisection import most
from fedcall.privacy.events import round_event
from fedcall.privacy.ledger.histories import Standing
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.ledger.limits import Limit, both_limits, read_limit
from fedcall.privacy.terms import PrivacyTerms

STAYS_HERE = "Stays at the hospital: it tells how many people have spent their budget."
SHAREABLE = "May leave the hospital: it follows from the study and its rounds so far, whoever the patients are."


class GroupPlan(BaseModel):
    """People with the same history and the same limits; null means infinite."""

    patients: int | None  # null: everybody the ledger has not seen yet
    spent_pld: float | None  # over all studies, at the study's delta, per unit of the study
    spent_rdp: float | None
    spent_by: Literal["PLD", "RDP filter"] = "PLD"  # what bounds spent_pld: over several studies no PLD is proven
    left_pld: float | None  # of the study's cap, never below 0; null without a cap
    rounds_that_fit: int  # of those the study has left, under every limit that holds for these people


class LedgerPlan(BaseModel):
    """Everything `fedcall ledger plan` prints."""

    note: str = STAYS_HERE
    study: str
    unit: str
    delta: float
    max_epsilon: float | None
    limit: Limit | None  # the hospital's own
    rounds: int
    rounds_charged: int  # of this study, at this site
    rounds_left: int
    rounds_that_fit: int  # for all people the study has charged or, before its first round, all in the ledger
    groups: list[GroupPlan]  # the most exposed first


def plan_ledger(
    ledger: Ledger, study: str, digest: str | None, terms: PrivacyTerms, rounds: int, shares: int = 1
) -> LedgerPlan:
    """Return what is left of `terms` for the patients of a ledger.

    Parameters
    ----------
    study, digest : str
        Name and digest of the study; no digest for terms that nobody signed yet.
    rounds : int
        Of the whole study.
    shares : int
        Sites whose noise is counted on in every opened sum; 1 where each update carries all of it.
    """
    planned = range(1, rounds + 1)  # beyond them is the judge, who charges other people
    mine = {row.round for row in ledger.rows() if row.kind == "reserve" and row.study == digest}
    charged = len(mine & set(planned))
    left = max(0, rounds - charged)
    limit = read_limit(ledger.path)
    named = digest or ""
    standings = ledger.standings(digest, planned)
    groups = [_group(one, people, named, terms, shares, left, limit) for one, people in standings.items()]
    groups.sort(key=lambda group: (group.rounds_that_fit, -(group.spent_pld or math.inf)))
    if not charged:
        groups.append(_group(Standing(), None, named, terms, shares, left, limit))
    return LedgerPlan(
        study=study,
        unit=terms.unit,
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        limit=limit,
        rounds=rounds,
        rounds_charged=charged,
        rounds_left=left,
        rounds_that_fit=min(group.rounds_that_fit for group in groups),
        groups=groups,
    )


def shareable_plan(
    ledger: Ledger, study: str, digest: str, terms: PrivacyTerms, rounds: int, shares: int = 1
) -> LedgerPlan:
    """Return what a study costs anybody at most, from public numbers alone: nothing of the hospital's own people."""
    mine = [row for row in ledger.rows() if row.kind == "reserve" and row.study == digest]
    charged = len({row.round for row in mine if row.round <= rounds})
    standing = Standing().charged(digest, round_event(terms, shares), charged) if charged else Standing()
    anybody = _group(standing, None, digest, terms, shares, rounds - charged, None)
    return LedgerPlan(
        note=SHAREABLE,
        study=study,
        unit=terms.unit,
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        limit=None,
        rounds=rounds,
        rounds_charged=charged,
        rounds_left=rounds - charged,
        rounds_that_fit=anybody.rounds_that_fit,
        groups=[anybody],
    )


def as_text(plan: LedgerPlan) -> str:
    """Return the plan as a table with a few lines around it."""
    cap = "no cap" if plan.max_epsilon is None else f"cap {plan.max_epsilon:g}"
    lines = [
        f"study {plan.study}: {plan.rounds_charged} of {plan.rounds} rounds charged, {cap} per {plan.unit} at delta"
        f" {plan.delta:g}",
        f"{'patients':>12}{'spent':>10}{'by':>12}{'RDP':>10}{'left':>10}{'rounds that fit':>17}",
    ]
    for group in plan.groups:
        unseen = "at most" if plan.note == SHAREABLE else "not seen yet"
        count = unseen if group.patients is None else str(group.patients)
        left = "no cap" if plan.max_epsilon is None else _number(group.left_pld)
        lines.append(
            f"{count:>12}{_number(group.spent_pld):>10}{group.spent_by:>12}{_number(group.spent_rdp):>10}{left:>10}"
            f"{group.rounds_that_fit:>17}"
        )
    of_whom = "anybody" if plan.note == SHAREABLE else "all of them"
    lines.append(f"with {of_whom}, {plan.rounds_that_fit} of the {plan.rounds_left} rounds left fit")
    if plan.limit:
        broken = plan.limit.epsilon_if_broken
        lines.append(
            f"the hospital's own limit: {plan.limit.epsilon:g} per {plan.limit.unit} at {plan.limit.delta:g}"
            + ("" if broken is None else f" ({broken:g} if the promise of pooled noise is broken)")
        )
    lines.append(plan.note)
    return "\n".join(lines)


def _group(
    standing: Standing,
    people: int | None,
    study: str,
    terms: PrivacyTerms,
    shares: int,
    left: int,
    limit: Limit | None,
) -> GroupPlan:
    event = round_event(terms, shares)
    limits = list(both_limits(limit, event.shares is not None)) if limit else []
    if terms.max_epsilon is not None:
        limits.append(Limit(epsilon=terms.max_epsilon, delta=terms.delta, unit=terms.unit))
    if terms.max_epsilon_if_broken is not None:
        cap = terms.max_epsilon_if_broken
        limits.append(Limit(epsilon=cap, delta=terms.delta, unit=terms.unit, if_broken=True))
    now = standing.epsilon(terms.delta, terms.unit, terms.max_epsilon)
    return GroupPlan(
        patients=people,
        spent_pld=now.pld if now.is_finite else None,
        spent_rdp=now.rdp if math.isfinite(now.rdp) else None,
        spent_by=now.by,
        left_pld=None if terms.max_epsilon is None else max(0.0, terms.max_epsilon - now.pld),
        rounds_that_fit=most(lambda more: standing.charged(study, event, more, limits).is_within_limits(), left),
    )


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
