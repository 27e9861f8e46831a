"""What a study will cost a unit, round by round, from its terms alone."""

import math
from collections.abc import Sequence

from pydantic import BaseModel

from fedcall.privacy.accounting.epsilon import Epsilon, compose, group_epsilon, noise_multiplier_for
from fedcall.privacy.accounting.pooling import log10_pooling_cost, pooled_epsilon
from fedcall.privacy.accounting.solving import rounds_for, rounds_within_cap, sampling_rate_for
from fedcall.privacy.events import round_event
from fedcall.privacy.mechanism.pooling import Pool
from fedcall.privacy.terms import COMMON_DELTA, PrivacyTerms

FAMILIES = (2, 3)  # always told: relatives share what is protected
LISTED_ROUNDS = 12  # a text table shows no more than about so many; JSON lists every round


class Cost(BaseModel):
    """Cumulative epsilon after a number of rounds; null means infinite."""

    rounds: int
    pld: float | None
    rdp: float | None


class GroupCost(BaseModel):
    """Epsilon of the whole study for several units together; null means infinite."""

    units: int
    pld: float | None
    rdp: float | None


class PooledCost(BaseModel):
    """What the study costs by who looks, where sites share the noise; `Plan.total` is what opened sums cost."""

    shares: int  # of the noise that are counted on in every sum
    to_a_site: Cost  # to one of the sites, which knows its own share
    if_broken: Cost  # to coordinator and all helpers together, who then see a share alone
    max_epsilon_if_broken: float | None
    log10_of_pooling: float | None  # of the epsilon that pooling itself adds; null for a single share


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
    common_delta: float = COMMON_DELTA
    max_epsilon: float | None
    per_round: Cost  # one round alone
    cumulative: list[Cost]
    total: Cost
    total_at_common_delta: Cost  # the same rounds at a delta that all studies are told at
    rounds_within_cap: int  # rounds of the study that its own caps allow
    family: Cost | None  # total for several units together
    family_size: int
    families: list[GroupCost]  # of 2 and 3 units
    patients_by_rows: list[GroupCost]  # unit "example": patients with so many rows, as the caller gave them
    target_epsilon: float | None
    noise_multiplier_for_target: float | None  # sampling rate and rounds as they are
    sampling_rate_for_target: float | None  # noise and rounds as they are; null if none is small enough
    rounds_for_target: int | None  # noise and sampling rate as they are
    pooled: PooledCost | None = None  # with privacy.noise 'pooled'


def plan_study(
    name: str,
    terms: PrivacyTerms,
    rounds: int,
    target_epsilon: float | None = None,
    family: int = 1,
    rows_of_patients: Sequence[int] = (),
    pool: Pool | None = None,
) -> Plan:
    """Return the plan of `rounds` rounds under `terms`.

    Parameters
    ----------
    target_epsilon : float, optional
        Also solve for the noise, the sampling rate and the rounds that cost this much, each with the others as given.
    family : int
        Also cost so many units together.
    rows_of_patients : sequence of int
        Public numbers of rows, to tell what a patient with so many gets when the unit is one example.
    pool : Pool, optional
        Who shares the noise.
    """
    event = round_event(terms)
    plan = [(event, rounds)]
    spent = [compose([(event, done)], terms.delta) for done in range(1, rounds + 1)]
    fits = rounds_within_cap(terms, 0, rounds, pool.shares if pool else 1)
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
        total_at_common_delta=_cost(rounds, compose(plan, COMMON_DELTA)),
        rounds_within_cap=rounds if fits is None else fits,
        family=_cost(rounds, group_epsilon(plan, terms.delta, family)) if family > 1 else None,
        family_size=family,
        families=[_group_cost(size, group_epsilon(plan, terms.delta, size)) for size in FAMILIES],
        patients_by_rows=[_group_cost(rows, group_epsilon(plan, terms.delta, rows)) for rows in rows_of_patients],
        target_epsilon=target_epsilon,
        noise_multiplier_for_target=noise_multiplier_for(terms, rounds, target_epsilon) if target_epsilon else None,
        sampling_rate_for_target=_sampling_rate(terms, rounds, target_epsilon) if target_epsilon else None,
        rounds_for_target=rounds_for(terms, target_epsilon) if target_epsilon else None,
        pooled=None if pool is None else _pooled(terms, rounds, pool),
    )


def as_text(plan: Plan) -> str:
    """Return the plan as a table with a few lines around it."""
    lines = [
        f"study {plan.study}: {plan.mechanism}, noise multiplier {plan.noise_multiplier:g},"
        f" sampling rate {plan.sampling_rate:g},",
        f"{plan.steps_per_round} steps per round, delta {plan.delta:g}",
        f"epsilon per {plan.unit} ({plan.adjacency})",
        f"{'rounds':>8}{'PLD':>10}{'RDP':>10}",
    ]
    stride = max(1, math.ceil(len(plan.cumulative) / LISTED_ROUNDS))
    shown = [cost for cost in plan.cumulative if cost.rounds % stride == 0 or cost.rounds in (1, plan.total.rounds)]
    lines += [f"{cost.rounds:>8}{_number(cost.pld):>10}{_number(cost.rdp):>10}" for cost in shown]
    common = _number(plan.total_at_common_delta.pld)
    lines.append(
        f"in all: epsilon {_number(plan.total.pld)} at delta {plan.delta:g}, {common} at delta {plan.common_delta:g}"
    )
    fit = f"{plan.rounds_within_cap} of {plan.total.rounds} rounds fit on a fresh ledger"
    if_broken = plan.pooled.max_epsilon_if_broken if plan.pooled else None
    cap = "no cap: max_epsilon is null" if plan.max_epsilon is None else f"cap {plan.max_epsilon:g}"
    if if_broken is not None:
        lines.append(f"{cap}; {if_broken:g} if the promise of pooled noise is broken (below): {fit}")
    else:
        lines.append(cap if plan.max_epsilon is None else f"{cap}: {fit}")
    groups = [*plan.families]
    if plan.family and plan.family_size not in FAMILIES:
        groups.append(GroupCost(units=plan.family_size, pld=plan.family.pld, rdp=plan.family.rdp))
    for group in groups:
        lines.append(f"{group.units} {plan.unit}s together: {_number(group.pld)} by PLD, {_number(group.rdp)} by RDP")
    for patient in plan.patients_by_rows:
        lines.append(
            f"a patient with {patient.units} rows: {_number(patient.pld)} by PLD, {_number(patient.rdp)} by RDP"
        )
    if plan.unit == "example":
        lines.append("These epsilons protect one example (one row), not a patient, who has one for every row.")
    lines += _pooled_lines(plan)
    if plan.target_epsilon is not None:
        rate = plan.sampling_rate_for_target
        lines += [
            f"for epsilon {plan.target_epsilon:g} in all, one of (the others as they are):",
            f"  noise multiplier {plan.noise_multiplier_for_target:g}",
            f"  sampling rate {'none is small enough' if rate is None else f'{rate:.4g}'}",
            f"  rounds {plan.rounds_for_target}",
        ]
    return "\n".join(lines)


def _pooled(terms: PrivacyTerms, rounds: int, pool: Pool) -> PooledCost:
    found = pooled_epsilon(round_event(terms, pool.shares), rounds, terms.delta, pool.tolerated_sites)
    return PooledCost(
        shares=pool.shares,
        to_a_site=_cost(rounds, found.to_a_site),
        if_broken=_cost(rounds, found.if_broken),
        max_epsilon_if_broken=terms.max_epsilon_if_broken,
        log10_of_pooling=log10_pooling_cost(terms.noise_multiplier, pool.shares, rounds),
    )


def _pooled_lines(plan: Plan) -> list[str]:
    pooled = plan.pooled
    if pooled is None:
        return []
    cap = pooled.max_epsilon_if_broken
    lines = [
        f"noise shared by {pooled.shares} sites; epsilon of the whole study, by who looks:",
        f"  at opened sums only (the promise of protection.mode holds): {_number(plan.total.pld)}",
        f"  one of the hospitals, which knows its own share: {_number(pooled.to_a_site.pld)}",
        f"  coordinator and all helpers together (the promise is broken): {_number(pooled.if_broken.pld)}"
        + ("" if cap is None else f", cap {cap:g}"),
    ]
    if pooled.log10_of_pooling is not None:
        lines.append(f"  pooling itself adds less than 10^{math.ceil(pooled.log10_of_pooling)}")
    return lines


def _cost(rounds: int, epsilon: Epsilon) -> Cost:
    pld, rdp = (value if math.isfinite(value) else None for value in (epsilon.pld, epsilon.rdp))
    return Cost(rounds=rounds, pld=pld, rdp=rdp)


def _group_cost(units: int, epsilon: Epsilon) -> GroupCost:
    cost = _cost(1, epsilon)
    return GroupCost(units=units, pld=cost.pld, rdp=cost.rdp)


def _sampling_rate(terms: PrivacyTerms, rounds: int, epsilon: float) -> float | None:
    try:
        return sampling_rate_for(terms, rounds, epsilon)
    except ValueError:
        return None


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
