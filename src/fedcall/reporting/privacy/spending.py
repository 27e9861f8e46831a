"""What has been spent, computed from a ledger's events: so far, per round, over all studies, and what still fits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcall.privacy.accounting.epsilon import Epsilon as Bounds
from fedcall.privacy.accounting.epsilon import compose, exceeds, group_epsilon, largest_loss, study_epsilon
from fedcall.privacy.accounting.losses import ORDERS
from fedcall.privacy.accounting.membership import membership
from fedcall.privacy.accounting.plan import FAMILIES
from fedcall.privacy.accounting.pooling import pooled_epsilon
from fedcall.privacy.accounting.solving import rounds_within_cap
from fedcall.privacy.ledger.limits import Limit, both_limits
from fedcall.privacy.terms import COMMON_DELTA
from fedcall.reporting.base.pages import power_of_ten, round_up
from fedcall.reporting.privacy.documents import (
    CurvePoint,
    ExhaustedInRound,
    FamilySpend,
    GroupSpend,
    LedgerSpend,
    PlannedSpend,
    RoundSpend,
    Spent,
    StudySpend,
)
from fedcall.reporting.privacy.ledger_facts import FamilyCharges, LedgerFacts, StudyCharges
from fedcall.reporting.privacy.rounds import RoundRecord
from fedcall.study.evidence_exchange import sentence as sealed_sentence
from fedcall.study.terms import Study

CURVE_DELTAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PLANNED_POINTS = 12
MOST_ROUNDS = 10_000  # more further rounds than this are not searched for


@dataclass(frozen=True)
class Told:
    """An epsilon at the study's delta and, beside it, at the common one; None if nothing is bounded."""

    epsilon: float | None
    delta: float
    common: float | None

    def __str__(self) -> str:
        """Return it as every headline tells it: `ε = 2.93 at δ = 10⁻³ (4.14 at δ = 10⁻⁵)`."""
        if self.epsilon is None:
            return "not bounded"
        beside = "unlimited" if self.common is None else round_up(self.common)
        also = "" if self.delta == COMMON_DELTA else f" ({beside} at δ = {power_of_ten(COMMON_DELTA)})"
        return f"ε = {round_up(self.epsilon)} at δ = {power_of_ten(self.delta)}{also}"


def spent_in_study(study: Study, ledger: LedgerFacts, rounds: Sequence[RoundSpend], only: LedgerSpend | None) -> Spent:
    """Return what one unit has lost in the study; with `only`, the headline is the loss over the whole ledger."""
    terms, releases = study.privacy, len(ledger.charged)
    now, one, planned = (study_epsilon(terms, count) for count in (releases, 1, study.rounds))
    fits = rounds_that_fit(study, releases)
    left = study.rounds - len(rounds)
    events = [(study.round_event, releases)]
    here = Told(finite(now.pld), terms.delta, finite(compose(events, COMMON_DELTA).pld))
    sentence = spend_sentence(terms.unit, here, terms.max_epsilon)
    if only and only.studies > 1 and here.epsilon is not None:
        whole = Told(only.epsilon_pld, terms.delta, only.epsilon_common)
        total = spend_sentence(terms.unit, whole, terms.max_epsilon)
        sentence = (
            f"{total} (by {_accountant(only)} over all {only.studies} studies of the ledger for the most exposed"
            f" {terms.unit}; in this study, by PLD, {here})"
        )
    sentence += if_broken_clause(study, releases)
    if here.epsilon is not None and fits is not None:
        sentence += f"; {_rounds_word(fits)} {'fits' if fits == 1 else 'fit'} under this study's cap"
    loss = worst_loss(study, ledger) if only else largest_loss(events, terms.delta)
    return Spent(
        sentence=sentence + "." + example_warning(terms.unit),
        unit=terms.unit,
        releases=releases,
        epsilon_pld=here.epsilon,
        epsilon_rdp=finite(now.rdp),
        delta=terms.delta,
        epsilon_common=here.common,
        max_epsilon=terms.max_epsilon,
        rounds_that_fit=fits,
        rounds_left_in_plan=left,
        planned_epsilon_pld=finite(planned.pld),
        planned_epsilon_rdp=finite(planned.rdp),
        round_epsilon_pld=finite(one.pld),
        round_epsilon_rdp=finite(one.rdp),
        families=tuple(_group(study, releases, size) for size in FAMILIES),
        membership=membership(only.epsilon_pld if only else here.epsilon, terms.delta, loss),
    )


def _group(study: Study, releases: int, size: int) -> GroupSpend:
    bound = group_epsilon([(study.round_event, releases)], study.privacy.delta, size)
    return GroupSpend(units=size, epsilon_pld=finite(bound.pld), epsilon_rdp=finite(bound.rdp))


def round_spends(study: Study, records: Sequence[RoundRecord], charged: Sequence[int]) -> tuple[RoundSpend, ...]:
    """Return every round that was claimed or charged, with what it cost and how it was answered."""
    terms = study.privacy
    by_round = {record.round: record for record in records}
    rows = []
    for number in sorted({*by_round, *charged}):
        spent = study_epsilon(terms, sum(1 for other in charged if other <= number))
        record = by_round.get(number)
        receipt = record.receipt if record else None
        status, reason, sentence = _answer(record)
        rows.append(
            RoundSpend(
                round=number,
                outcome=record.claim.outcome if record else "charged without a claim",
                charged=number in charged,
                epsilon_pld=finite(spent.pld),
                epsilon_rdp=finite(spent.rdp),
                planned_epsilon_pld=finite(study_epsilon(terms, number).pld),
                claimed_epsilon=record.claim.epsilon if record else None,
                aggregator_epsilon=receipt.epsilon if receipt else None,
                status=status,
                reason=reason,
                sentence=sentence,
            )
        )
    return tuple(rows)


def _answer(record: RoundRecord | None) -> tuple[str, str, str]:
    """Return the last word on an update: status, reason, sentence."""
    if record is None or record.receipt is None:
        return "waiting", "waiting", "No answer of the aggregator yet."
    if record.put_out is not None:
        return "quarantined", "outlier", record.put_out
    if record.void is not None and record.receipt.status == "accepted":
        return "void", "void", f"{record.void}; it stays charged"
    sentence = record.receipt.sentence
    if record.summed is not None:
        others = [name for name in record.summed if name != record.claim.site]
        sentence += (
            f". Opened only as a sum with {', '.join(others)}: the coordinator's signature and those of all helpers on"
            " this list were verified"
        )
    if record.sealed is not None:
        sentence += f"; {sealed_sentence(record.sealed)}"
    return record.receipt.status, record.receipt.reason, sentence


def if_broken_clause(study: Study, releases: int) -> str:
    """Return what pooled noise protects from those who see more than opened sums; nothing where noise is a site's own.

    It stands beside the epsilon of opened sums wherever that is said.
    """
    if study.pool is None or releases == 0:
        return ""
    cost = pooled_epsilon(study.round_event, releases, study.privacy.delta, study.protection.tolerated_sites)
    cap = study.privacy.max_epsilon_if_broken
    return (
        f" (to whoever sees opened sums only; ε = {round_up(cost.to_a_site.pld)} to one of the hospitals, and"
        f" ε = {round_up(cost.if_broken.pld)} in this study if coordinator and all helpers break the promise together"
        f"{'' if cap is None else f', {cap:g} allowed'})"
    )


def planned_spends(study: Study) -> tuple[PlannedSpend, ...]:
    """Return the spend that was planned, at the first and the last round and evenly between them."""
    steps = min(study.rounds, PLANNED_POINTS) - 1
    rounds = [1 + round(step * (study.rounds - 1) / steps) for step in range(steps + 1)] if steps else [1]
    spends = ((number, study_epsilon(study.privacy, number)) for number in rounds)
    return tuple(
        PlannedSpend(round=number, epsilon_pld=finite(spent.pld), epsilon_rdp=finite(spent.rdp))
        for number, spent in spends
    )


def guarantee_curve(study: Study, releases: int) -> tuple[CurvePoint, ...]:
    """Return the guarantee of the study's releases at other deltas."""
    points = []
    for delta in sorted({*CURVE_DELTAS, COMMON_DELTA, study.privacy.delta}, reverse=True):
        bound = compose([(study.round_event, releases)], delta)
        points.append(CurvePoint(delta=delta, epsilon_pld=finite(bound.pld), epsilon_rdp=finite(bound.rdp)))
    return tuple(points)


def spend_over_ledger(study: Study, ledger: LedgerFacts) -> LedgerSpend:
    """Return what the most exposed unit has lost over every study of the ledger."""
    terms = study.privacy
    cap = terms.max_epsilon
    bounds = [one.epsilon(terms.delta, terms.unit, cap) for one in ledger.standings] or [Bounds(0.0, 0.0)]
    worst = max(bounds, key=lambda bound: bound.pld)
    common = max((one.epsilon(COMMON_DELTA, terms.unit).pld for one in ledger.standings), default=0.0)
    return LedgerSpend(
        studies=sum(1 for one in ledger.studies if one.charged),
        charges=sum(one.charged for one in ledger.studies),
        epsilon_pld=finite(worst.pld),
        epsilon_rdp=finite(max(bound.rdp for bound in bounds)),
        accountant=worst.by,
        epsilon_common=finite(common),
        delta=terms.delta,
        unit=terms.unit,
        head=ledger.head,
        limit=ledger.limit.epsilon if ledger.limit else None,
        limit_delta=ledger.limit.delta if ledger.limit else None,
        exhausted=tuple(
            ExhaustedInRound(round=number, people=people) for number, people in ledger.exhausted.items() if people
        ),
        people_who_fit=_people_who_fit(study, ledger),
        people=sum(ledger.training.values()),
        judging_people=ledger.judge.people if ledger.judge else None,
        judging_exhausted=ledger.judge.exhausted if ledger.judge else None,
        families=tuple(_family(study, ledger, one) for one in ledger.families),
        by_study=tuple(_study_spend(study, one) for one in ledger.studies),
    )


def _family(study: Study, ledger: LedgerFacts, family: FamilyCharges) -> FamilySpend:
    """Return what relatives lost together, in the study and over all, against what one person may lose."""
    terms, limit = study.privacy, ledger.limit
    here = group_epsilon([(study.round_event, len(ledger.charged))], terms.delta, family.people)
    over_all = family_epsilon(family, terms.delta)
    within_limit = None
    if limit is not None and limit.unit == terms.unit:
        within_limit = not exceeds(family_epsilon(family, limit.delta), limit.epsilon)
    return FamilySpend(
        people=family.people,
        epsilon_pld=finite(here.pld),
        studies=family.studies,
        epsilon_over_ledger=finite(over_all),
        within_cap=None if terms.max_epsilon is None else not exceeds(over_all, terms.max_epsilon),
        within_limit=within_limit,
    )


def family_epsilon(family: FamilyCharges, delta: float) -> float:
    """Return the epsilon of relatives as one over all studies: by PLD in one study, by RDP over several.

    A round that one of them took part in counts as if all had. PLD is proven for plans that are fixed ahead, and a
    second study's terms may depend on what the first one released. RDP at one order composes whatever was chosen
    (`privacy.accounting.filter`); the best order is chosen afterwards, and paid for with delta / len(ORDERS).
    Infinite where one of the studies bounds nothing for a person.
    """
    events = [(event, count) for _, event, count in family.charges]
    if any(event.unit == "example" for event, _ in events):
        return math.inf
    if family.studies <= 1:
        return group_epsilon(events, delta, family.people).pld
    return group_epsilon(events, delta / len(ORDERS), family.people).rdp


def worst_loss(study: Study, ledger: LedgerFacts) -> float:
    """Return a loss that no person of the ledger passes with a probability above the study's delta."""
    terms = study.privacy
    return max((one.loss(terms.delta, terms.unit, terms.max_epsilon) for one in ledger.standings), default=0.0)


def _people_who_fit(study: Study, ledger: LedgerFacts) -> int:
    """Return how many of the people below can afford one more round, under every limit that holds for them."""
    terms = study.privacy
    event = study.round_event
    limits = list(both_limits(ledger.limit, event.shares is not None)) if ledger.limit else []
    for cap, if_broken in ((terms.max_epsilon, False), (terms.max_epsilon_if_broken, True)):
        if cap is not None:
            limits.append(Limit(epsilon=cap, delta=terms.delta, unit=terms.unit, if_broken=if_broken))
    return sum(
        people
        for one, people in ledger.training.items()
        if one.charged(study.digest, event, 1, limits).is_within_limits()
    )


def _study_spend(study: Study, charges: StudyCharges) -> StudySpend:
    terms = study.privacy
    bounds = [compose(one, terms.delta, terms.unit) for one in charges.of_people] or [Bounds(0.0, 0.0)]
    return StudySpend(
        study=charges.study,
        is_this=charges.study == study.digest,
        charged=charges.charged,
        unreleased=charges.charged - charges.released,
        withheld=charges.withheld,
        epsilon_pld=finite(max(bound.pld for bound in bounds)),
        epsilon_rdp=finite(max(bound.rdp for bound in bounds)),
        last=charges.last,
    )


def ledger_sentence(only: LedgerSpend | None, cap: float | None) -> str:
    """Return the cumulative spend in words, or why this copy does not tell it."""
    if only is None:
        return (
            "This copy was made to be shared. The spend over all studies depends on who took part in which"
            " and stands in the copy that stays at the site; the ledger holds every person to this study's cap, to the"
            " hospital's own limit and to every limit the person was ever charged under."
        )
    total = Told(only.epsilon_pld, only.delta, only.epsilon_common)
    allowed = f", of {cap:g} allowed" if cap is not None else ""
    text = (
        f"Over the {only.studies} {'study' if only.studies == 1 else 'studies'} and {only.charges} charged releases in"
        f" the site's ledger, the most exposed {only.unit}'s loss is {total} by"
        f" {_accountant(only)}{allowed}. A rerun of the same release is charged once; a round that crashed stays"
        " charged."
    )
    if only.studies > 1:
        text += " Over several studies, whose terms were chosen one after the other, an RDP filter adds losses up."
    if only.limit is not None and only.limit_delta is not None:
        text += f" The hospital's own limit is ε = {only.limit:g} at δ = {power_of_ten(only.limit_delta)}."
    return f"{text} {exhausted_sentence(only)}"


def exhausted_sentence(only: LedgerSpend) -> str:
    """Return how many people have spent their budget: for the hospital's eyes, never in a shared copy."""
    if only.exhausted:
        last = only.exhausted[-1]
        rounds = len(only.exhausted)
        told = (
            f"In {rounds} round{'' if rounds == 1 else 's'} somebody's budget was spent (in round {last.round}:"
            f" {last.people} of this hospital's people): they contributed nothing, and nobody outside is told."
        )
    else:
        told = "In no charged round of this study had anybody's budget been spent."
    if only.judging_people is not None:
        told += (
            f" The judge charged {only.judging_people} held-out {'person' if only.judging_people == 1 else 'people'}"
        )
        told += f"; {only.judging_exhausted} more had no budget left and counted as no difference."
    if only.people:
        told += f" One more round would be within every limit of {only.people_who_fit} of {only.people} people."
    return f"{told} This stays at the hospital."


def rounds_that_fit(study: Study, releases: int) -> int | None:
    """Return how many further rounds of these terms the study's own history leaves under its caps: a public number."""
    return rounds_within_cap(study.privacy, releases, MOST_ROUNDS, study.noise_shares)


def spend_sentence(unit: str, told: Told, cap: float | None) -> str:
    """Return the start of the headline: whose loss, how much, of how much."""
    if told.epsilon is None:
        return f"Nothing bounds the privacy loss of any {unit}: training added no noise"
    allowed = f"of {cap:g} allowed" if cap is not None else "with no cap agreed"
    return f"Each {unit}'s total privacy loss so far is {told}, {allowed}"


def _accountant(only: LedgerSpend) -> str:
    return "an RDP filter" if only.accountant == "RDP filter" else "PLD"


def example_warning(unit: str) -> str:
    """Return what must stand beside an example's epsilon (invariant 9)."""
    if unit == "patient":
        return ""
    return " This is the loss of one example (one candidate site), not of a patient: a patient's guarantee is weaker."


def finite(value: float) -> float | None:
    """Return a bound, or None if it bounds nothing."""
    return value if math.isfinite(value) else None


def _rounds_word(fits: int) -> str:
    if fits >= MOST_ROUNDS:
        return f"more than {MOST_ROUNDS} further rounds"
    return f"{fits or 'no'} more round{'' if fits == 1 else 's'}"
