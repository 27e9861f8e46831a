"""The privacy report of one site: what its patients have lost, by the site's own record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcall.federation.study import Study
from fedcall.privacy.accounting import Epsilon as Bounds
from fedcall.privacy.accounting import compose, study_epsilon
from fedcall.privacy.events import Event, round_event
from fedcall.reporting import figures
from fedcall.reporting.checklist import checklist, not_covered, software, trust
from fedcall.reporting.membership import membership
from fedcall.reporting.pages import power_of_ten, round_up
from fedcall.reporting.privacy_documents import (
    Condition,
    CurvePoint,
    LedgerSpend,
    PrivacyReport,
    RoundSpend,
    Spent,
    Statement,
    StudyFacts,
)
from fedcall.reporting.rounds import RoundRecord
from fedcall.reporting.traffic_light import spending_conditions, traffic_light

CURVE_DELTAS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
MOST_ROUNDS = 10_000  # more further rounds than this are not searched for
AGREEMENT = 1e-6  # between an epsilon that was claimed and the same one recomputed

History = Sequence[tuple[Event, int]]


@dataclass(frozen=True)
class LedgerFacts:
    """What the report needs from a site's ledger.

    Attributes
    ----------
    charged : rounds of this study that are charged, ascending
    histories : per group of patients with equal charges, its events over all studies with their numbers of rounds;
        only groups that a further round of this study would charge, or all if none is charged yet
    studies, charges : numbers of studies and of charged rounds over all studies
    head : hash of the last row
    problem : why the chain of rows does not verify, or None
    """

    charged: tuple[int, ...]
    histories: tuple[History, ...]
    studies: int
    charges: int
    head: str
    problem: str | None = None


def privacy_report(
    study: Study, site: str, records: Sequence[RoundRecord], ledger: LedgerFacts, shareable: bool = False
) -> PrivacyReport:
    """Compute the privacy report of a site.

    Parameters
    ----------
    study : Study
        As signed.
    site : str
        Name of the site.
    records : sequence of RoundRecord
        Its claims and receipts.
    ledger : LedgerFacts
        Its charges.
    shareable : bool
        Leave out what depends on which patients took part in other studies, so that the report may leave the site.
    """
    terms = study.privacy
    ledger_spend = None if shareable else _ledger_spend(study, ledger)
    rounds = _rounds(study, records, ledger.charged)
    spent = _spent(study, ledger, rounds, ledger_spend)
    total = ledger_spend.epsilon_pld if ledger_spend else spent.epsilon_pld
    conditions = [
        *spending_conditions(total, terms.max_epsilon, spent.rounds_that_fit, spent.rounds_left_in_plan, terms.unit),
        *_record_conditions(rounds, ledger.problem),
    ]
    return PrivacyReport(
        study=study_facts(study),
        site=site,
        patients_declared=study.site(site).patients,
        units_declared=study.units(site),
        spent=spent,
        light=traffic_light(
            conditions,
            {
                "green": "This may go on.",
                "amber": "Look at the conditions that fail before this goes on.",
                "red": "This must not go on.",
            },
        ),
        rounds=rounds,
        curve=_curve(study, len(ledger.charged)),
        terms=terms,
        learning_rate=study.training.learning_rate,
        iterate_averaging=study.training.iterate_averaging,
        site_only=ledger_spend,
        trust=trust(study),
        not_covered=not_covered(study),
        checklist=checklist(study, spent.sentence, _ledger_sentence(ledger_spend, terms.max_epsilon)),
        commands=_commands(site),
        software=software(),
    )


def privacy_figures(report: PrivacyReport) -> dict[str, str]:
    """Draw the gauge and the plot of a site's report."""
    spent, only = report.spent, report.site_only
    total = only.epsilon_pld if only else spent.epsilon_pld
    charged = [row for row in report.rounds if row.charged and row.epsilon_pld is not None]
    text = f"ε {round_up(total)}" if total is not None else "ε unlimited"
    allowed = f"{spent.max_epsilon:g} allowed" if spent.max_epsilon is not None else "no agreed cap"
    return {
        "gauge": figures.gauge(total, spent.max_epsilon, text, f"Gauge: {text} of {allowed}"),
        "spending": figures.spending(
            [row.round for row in charged],
            [row.epsilon_pld or 0.0 for row in charged],
            [row.epsilon_rdp or 0.0 for row in charged],
            spent.max_epsilon,
            report.study.rounds_planned,
            spent.unit,
        ),
    }


def study_facts(study: Study) -> StudyFacts:
    """Return which study a report is about."""
    return StudyFacts(
        name=study.name,
        sha256=study.digest,
        coordinator=study.coordinator or "",
        sites=tuple(site.name for site in study.sites),
        rounds_planned=study.rounds,
    )


def spend_sentence(unit: str, epsilon: float | None, delta: float, cap: float | None) -> str:
    """Return the start of the headline: whose loss, how much, of how much."""
    if epsilon is None:
        return f"Nothing bounds the privacy loss of any {unit}: training added no noise"
    allowed = f"of {cap:g} allowed" if cap is not None else "with no cap agreed"
    whose = f"Each {unit}'s total privacy loss so far is"
    return f"{whose} ε = {round_up(epsilon)} at δ = {power_of_ten(delta)}, {allowed}"


def example_warning(unit: str) -> str:
    """Return what must stand beside an example's epsilon (design §6, invariant 9)."""
    if unit == "patient":
        return ""
    return " This is the loss of one example (one candidate site), not of a patient: a patient's guarantee is weaker."


def finite(value: float) -> float | None:
    """Return a bound, or None if it bounds nothing."""
    return value if math.isfinite(value) else None


def study_history(study: Study, releases: int) -> tuple[History, ...]:
    """Return the history of patients who were in no other study."""
    return (((round_event(study.privacy), releases),),)


def rounds_that_fit(study: Study, histories: Sequence[History]) -> int | None:
    """Return how many further rounds of these terms the most exposed group of patients can afford."""
    terms = study.privacy
    if terms.max_epsilon is None:
        return None
    event = round_event(terms)

    def fit(count: int) -> bool:
        bounds = (compose([*past, (event, count)], terms.delta, terms.unit) for past in histories or ((),))
        return not any(bound.exceeds(terms.max_epsilon) for bound in bounds)

    if not fit(1):
        return 0
    low, high = 1, 2
    while high < MOST_ROUNDS and fit(high):
        low, high = high, 2 * high
    high = min(high, MOST_ROUNDS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


def _spent(study: Study, ledger: LedgerFacts, rounds: Sequence[RoundSpend], only: LedgerSpend | None) -> Spent:
    terms, releases = study.privacy, len(ledger.charged)
    now, one, planned = (study_epsilon(terms, count) for count in (releases, 1, study.rounds))
    histories = ledger.histories if only else study_history(study, releases)
    fits = rounds_that_fit(study, histories)
    left = study.rounds - len(rounds)
    epsilon = finite(now.pld)
    sentence = spend_sentence(terms.unit, epsilon, terms.delta, terms.max_epsilon)
    if only and only.studies > 1 and epsilon is not None:
        here = f"ε = {round_up(epsilon)} of it in this study"
        total = spend_sentence(terms.unit, only.epsilon_pld, terms.delta, terms.max_epsilon)
        sentence = f"{total} ({here}, over all {only.studies} studies of the ledger for the most exposed {terms.unit})"
    if epsilon is not None and fits is not None:
        sentence += f"; {_rounds_word(fits)} {'fits' if fits == 1 else 'fit'}"
    return Spent(
        sentence=sentence + "." + example_warning(terms.unit),
        unit=terms.unit,
        releases=releases,
        epsilon_pld=epsilon,
        epsilon_rdp=finite(now.rdp),
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        rounds_that_fit=fits,
        rounds_left_in_plan=left,
        planned_epsilon_pld=finite(planned.pld),
        planned_epsilon_rdp=finite(planned.rdp),
        round_epsilon_pld=finite(one.pld),
        round_epsilon_rdp=finite(one.rdp),
        membership=membership(only.epsilon_pld if only else epsilon, terms.delta),
    )


def _rounds_word(fits: int) -> str:
    if fits >= MOST_ROUNDS:
        return f"more than {MOST_ROUNDS} further rounds"
    return f"{fits or 'no'} more round{'' if fits == 1 else 's'}"


def _rounds(study: Study, records: Sequence[RoundRecord], charged: Sequence[int]) -> tuple[RoundSpend, ...]:
    terms = study.privacy
    by_round = {record.round: record for record in records}
    rows = []
    for number in sorted({*by_round, *charged}):
        spent = study_epsilon(terms, sum(1 for other in charged if other <= number))
        record = by_round.get(number)
        receipt = record.receipt if record else None
        rows.append(
            RoundSpend(
                round=number,
                outcome=record.claim.outcome if record else "charged without a claim",
                charged=number in charged,
                epsilon_pld=finite(spent.pld),
                epsilon_rdp=finite(spent.rdp),
                claimed_epsilon=record.claim.epsilon if record else None,
                aggregator_epsilon=receipt.epsilon if receipt else None,
                status=receipt.status if receipt else "waiting",
                reason=receipt.reason if receipt else "waiting",
                sentence=receipt.sentence if receipt else "No answer of the aggregator yet.",
            )
        )
    return tuple(rows)


def _record_conditions(rounds: Sequence[RoundSpend], problem: str | None) -> list[Condition]:
    sent = [row for row in rounds if row.outcome == "update"]
    agree = all(
        row.claimed_epsilon == row.epsilon_pld
        or (
            row.claimed_epsilon is not None
            and row.epsilon_pld is not None
            and math.isclose(row.claimed_epsilon, row.epsilon_pld, rel_tol=AGREEMENT)
        )
        for row in sent
    )
    return [
        Condition(
            statement="The ledger's chain of rows is unbroken" + (f" ({problem})." if problem else "."),
            holds=problem is None,
            otherwise="red",
            about="records",
        ),
        Condition(
            statement="Every update that was sent is charged to the ledger.",
            holds=all(row.charged for row in sent),
            otherwise="red",
            about="records",
        ),
        Condition(
            statement="Every claim states the epsilon that this report computes again.",
            holds=agree,
            otherwise="red",
            about="records",
        ),
        Condition(
            statement="The aggregator refused no update.",
            holds=not any(row.status in ("rejected", "quarantined") for row in rounds),
            otherwise="amber",
            about="records",
        ),
    ]


def _curve(study: Study, releases: int) -> tuple[CurvePoint, ...]:
    points = []
    for delta in sorted({*CURVE_DELTAS, study.privacy.delta}, reverse=True):
        bound = compose([(round_event(study.privacy), releases)], delta)
        points.append(CurvePoint(delta=delta, epsilon_pld=finite(bound.pld), epsilon_rdp=finite(bound.rdp)))
    return tuple(points)


def _ledger_spend(study: Study, ledger: LedgerFacts) -> LedgerSpend:
    terms = study.privacy
    bounds = [compose(history, terms.delta, terms.unit) for history in ledger.histories] or [Bounds(0.0, 0.0)]
    worst = max(bounds, key=lambda bound: bound.pld)
    return LedgerSpend(
        studies=ledger.studies,
        charges=ledger.charges,
        epsilon_pld=finite(worst.pld),
        epsilon_rdp=finite(max(bound.rdp for bound in bounds)),
        delta=terms.delta,
        unit=terms.unit,
        head=ledger.head,
    )


def _ledger_sentence(only: LedgerSpend | None, cap: float | None) -> str:
    if only is None:
        return (
            "This copy was made to be shared. The spend over all studies depends on which patients took part in which"
            " and stands in the copy that stays at the site; the ledger holds every round to the cap over all studies."
        )
    total = f"ε = {round_up(only.epsilon_pld)}" if only.epsilon_pld is not None else "not bounded"
    allowed = f", of {cap:g} allowed" if cap is not None else ""
    return (
        f"Over the {only.studies} {'study' if only.studies == 1 else 'studies'} and {only.charges} charged rounds in"
        f" the site's ledger, the most exposed {only.unit}'s loss is {total} at δ = {power_of_ten(only.delta)}"
        f"{allowed}. A rerun of the same release is charged once; a round that crashed stays charged."
    )


def _commands(site: str) -> tuple[Statement, ...]:
    rows = (
        ("The study is the one all sites signed", "fedcall study check --study study.json"),
        ("The ledger was not edited or cut", "fedcall ledger verify --ledger LEDGER"),
        ("Every charge, over all studies", "fedcall ledger show --ledger LEDGER"),
        ("The planned spend, before anything runs", "fedcall privacy plan --study STUDY.yaml"),
        (
            "This report, made again (claims and receipts are verified)",
            f"fedcall report privacy --study study.json --site {site} --keys KEYS --ledger LEDGER --rounds ROUNDS"
            " --html H --json J",
        ),
    )
    return tuple(Statement(topic=what, statement=command) for what, command in rows)
