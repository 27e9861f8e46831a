"""How much of a study the patients of a ledger can still afford."""

import math

from pydantic import BaseModel

from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.accounting.solving import most_rounds
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms

History = tuple[tuple[Event, int], ...]


class GroupPlan(BaseModel):
    """Patients with the same history; null means infinite."""

    patients: int | None  # null: everybody the ledger has not seen yet
    spent_pld: float | None  # over all studies, at the study's delta, per unit of the study
    spent_rdp: float | None
    left_pld: float | None  # of the study's cap, never below 0; null without a cap
    rounds_that_fit: int  # of those the study has left


class LedgerPlan(BaseModel):
    """Everything `fedcall ledger plan` prints."""

    study: str
    unit: str
    delta: float
    max_epsilon: float | None
    rounds: int
    rounds_charged: int  # of this study, at this site
    rounds_left: int
    rounds_that_fit: int  # for all patients the study has charged or, before its first round, all in the ledger
    groups: list[GroupPlan]  # the most exposed first


def plan_ledger(ledger: Ledger, study: str, digest: str | None, terms: PrivacyTerms, rounds: int) -> LedgerPlan:
    """Return what is left of `terms` for the patients of a ledger.

    Parameters
    ----------
    study, digest : str
        Name and digest of the study; no digest for terms that nobody signed yet.
    rounds : int
        Of the whole study.
    """
    charged = len({row.round for row in ledger.rows() if row.kind == "reserve" and row.study == digest})
    left = max(0, rounds - charged)
    counted = ledger.history_counts(digest)
    groups = [_group(history, patients, terms, left) for history, patients in counted.items()]
    groups.sort(key=lambda group: (group.rounds_that_fit, -(group.spent_pld or math.inf)))
    if not charged:
        groups.append(_group((), None, terms, left))
    return LedgerPlan(
        study=study,
        unit=terms.unit,
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        rounds=rounds,
        rounds_charged=charged,
        rounds_left=left,
        rounds_that_fit=min(group.rounds_that_fit for group in groups),
        groups=groups,
    )


def as_text(plan: LedgerPlan) -> str:
    """Return the plan as a table with a few lines around it."""
    cap = "no cap" if plan.max_epsilon is None else f"cap {plan.max_epsilon:g}"
    lines = [
        f"study {plan.study}: {plan.rounds_charged} of {plan.rounds} rounds charged, {cap} per {plan.unit} at delta"
        f" {plan.delta:g}",
        f"{'patients':>12}{'spent PLD':>12}{'spent RDP':>12}{'left':>10}{'rounds that fit':>18}",
    ]
    for group in plan.groups:
        count = "not seen yet" if group.patients is None else str(group.patients)
        left = "no cap" if plan.max_epsilon is None else _number(group.left_pld)
        lines.append(
            f"{count:>12}{_number(group.spent_pld):>12}{_number(group.spent_rdp):>12}{left:>10}"
            f"{group.rounds_that_fit:>18}"
        )
    lines.append(f"with all of them, {plan.rounds_that_fit} of the {plan.rounds_left} rounds left fit")
    return "\n".join(lines)


def _group(history: History, patients: int | None, terms: PrivacyTerms, left: int) -> GroupPlan:
    event = round_event(terms)

    def spent(more: int) -> Epsilon:
        return compose([*history, (event, more)], terms.delta, terms.unit)

    now = spent(0)
    return GroupPlan(
        patients=patients,
        spent_pld=now.pld if now.is_finite else None,
        spent_rdp=now.rdp if math.isfinite(now.rdp) else None,
        left_pld=None if terms.max_epsilon is None else max(0.0, terms.max_epsilon - now.pld),
        rounds_that_fit=most_rounds(lambda more: not spent(more).exceeds(terms.max_epsilon), left),
    )


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
