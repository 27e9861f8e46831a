"""What a study will cost a unit, round by round, from its terms alone."""

import math

from pydantic import BaseModel

from fedcall.privacy.accounting import Epsilon, compose, group_epsilon, noise_multiplier_for
from fedcall.privacy.events import round_event
from fedcall.privacy.terms import PrivacyTerms

LISTED_ROUNDS = 12  # a text table shows no more than about so many; JSON lists every round


class Cost(BaseModel):
    """Cumulative epsilon after a number of rounds; null means infinite."""

    rounds: int
    pld: float | None
    rdp: float | None


class Plan(BaseModel):
    """Everything `fedcall privacy plan` prints."""

    study: str
    unit: str
    mechanism: str
    adjacency: str = "add or remove one unit"
    noise_multiplier: float
    sampling_rate: float
    steps_per_round: int
    delta: float
    max_epsilon: float | None
    per_round: Cost  # one round alone
    cumulative: list[Cost]
    total: Cost
    rounds_within_cap: int  # rounds a site can take part in before it withholds, on a fresh ledger
    family: Cost | None  # total for several units together
    family_size: int
    noise_multiplier_for_target: float | None


def plan_study(
    name: str, terms: PrivacyTerms, rounds: int, target_epsilon: float | None = None, family: int = 1
) -> Plan:
    """Return the plan of `rounds` rounds under `terms`."""
    event = round_event(terms)
    spent = [compose([(event, done)], terms.delta) for done in range(1, rounds + 1)]
    return Plan(
        study=name,
        unit=terms.unit,
        mechanism=terms.mechanism,
        noise_multiplier=terms.noise_multiplier,
        sampling_rate=terms.sampling_rate,
        steps_per_round=terms.steps_per_round,
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        per_round=_cost(1, spent[0]),
        cumulative=[_cost(done, epsilon) for done, epsilon in enumerate(spent, start=1)],
        total=_cost(rounds, spent[-1]),
        rounds_within_cap=sum(not epsilon.exceeds(terms.max_epsilon) for epsilon in spent),
        family=_cost(rounds, group_epsilon([(event, rounds)], terms.delta, family)) if family > 1 else None,
        family_size=family,
        noise_multiplier_for_target=noise_multiplier_for(terms, rounds, target_epsilon) if target_epsilon else None,
    )


def as_text(plan: Plan) -> str:
    """Return the plan as a table with a few lines around it."""
    lines = [
        f"study {plan.study}: {plan.mechanism}, noise multiplier {plan.noise_multiplier:g}, sampling rate"
        f" {plan.sampling_rate:g}, {plan.steps_per_round} steps per round, delta {plan.delta:g}",
        f"epsilon per {plan.unit} ({plan.adjacency})",
        f"{'rounds':>8}{'PLD':>10}{'RDP':>10}",
    ]
    stride = max(1, math.ceil(len(plan.cumulative) / LISTED_ROUNDS))
    shown = [cost for cost in plan.cumulative if cost.rounds % stride == 0 or cost.rounds in (1, plan.total.rounds)]
    lines += [f"{cost.rounds:>8}{_number(cost.pld):>10}{_number(cost.rdp):>10}" for cost in shown]
    if plan.max_epsilon is None:
        lines.append("no cap: max_epsilon is null")
    else:
        lines.append(
            f"cap {plan.max_epsilon:g}: {plan.rounds_within_cap} of {plan.total.rounds} rounds fit on a fresh ledger"
        )
    if plan.family:
        lines.append(
            f"{plan.family_size} {plan.unit}s together: {_number(plan.family.pld)} by PLD,"
            f" {_number(plan.family.rdp)} by RDP"
        )
    if plan.noise_multiplier_for_target is not None:
        lines.append(f"noise multiplier for the target: {plan.noise_multiplier_for_target:g}")
    return "\n".join(lines)


def _cost(rounds: int, epsilon: Epsilon) -> Cost:
    pld, rdp = (value if math.isfinite(value) else None for value in (epsilon.pld, epsilon.rdp))
    return Cost(rounds=rounds, pld=pld, rdp=rdp)


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
