"""The privacy report of one site: what its patients have lost, by the site's own record."""

import math
from collections.abc import Sequence

from fedcall.reporting.base import figures
from fedcall.reporting.base.gauge import gauge
from fedcall.reporting.base.pages import round_up
from fedcall.reporting.privacy.audit import audit_conditions, audit_statement
from fedcall.reporting.privacy.checklist import KeptAtSite, checklist, local_parameters, not_covered, software, trust
from fedcall.reporting.privacy.clipping import adaptive_clipping
from fedcall.reporting.privacy.documents import (
    Audit,
    ClosedEarly,
    Condition,
    LedgerSpend,
    PrivacyReport,
    RoundSpend,
    Statement,
    StudyFacts,
)
from fedcall.reporting.privacy.ledger_facts import LedgerFacts
from fedcall.reporting.privacy.rounds import RoundRecord
from fedcall.reporting.privacy.spending import (
    guarantee_curve,
    ledger_sentence,
    planned_spends,
    round_spends,
    spend_over_ledger,
    spent_in_study,
)
from fedcall.reporting.privacy.traffic_light import spending_conditions, traffic_light
from fedcall.study.terms import Study

NOTHING_KEPT = KeptAtSite()
AGREEMENT = 1e-6  # between an epsilon that was claimed and the same one recomputed


def privacy_report(
    study: Study,
    site: str,
    records: Sequence[RoundRecord],
    ledger: LedgerFacts,
    shareable: bool = False,
    audit: Audit | None = None,
    kept: KeptAtSite = NOTHING_KEPT,
    closed: ClosedEarly | None = None,
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
    audit : Audit, optional
        What an audit of this kind of study proved.
    kept : KeptAtSite
        What the site fits on its own patients and keeps.
    closed : ClosedEarly, optional
        That the study was ended before its last round: no round is to come.
    """
    terms = study.privacy
    over_ledger = None if shareable else spend_over_ledger(study, ledger)
    rounds = round_spends(study, records, ledger.charged)
    spent = spent_in_study(study, ledger, rounds, over_ledger)
    if closed is not None:
        spent = spent.model_copy(update={"rounds_left_in_plan": 0})
    total = over_ledger.epsilon_pld if over_ledger else spent.epsilon_pld
    conditions = [
        *spending_conditions(total, terms.max_epsilon, spent.rounds_that_fit, spent.rounds_left_in_plan, terms.unit),
        *_family_conditions(over_ledger),
        *_record_conditions(rounds, ledger.problem),
        *_sum_conditions(study, records),
        *_sealed_conditions(study, records),
        *audit_conditions(audit),
    ]
    return PrivacyReport(
        study=study_facts(study),
        site=site,
        patients_declared=study.site(site).patients,
        units_declared=study.units(site),
        spent=spent,
        closed=closed,
        light=traffic_light(
            conditions,
            {
                "green": "This may go on.",
                "amber": "Look at the conditions that fail before this goes on.",
                "red": "This must not go on.",
            },
        ),
        rounds=rounds,
        planned=planned_spends(study),
        curve=guarantee_curve(study, len(ledger.charged)),
        terms=terms,
        learning_rate=study.training.learning_rate,
        iterate_averaging=study.training.iterate_averaging,
        site_only=over_ledger,
        adaptive_clipping=adaptive_clipping(study, site, records),
        audit=audit,
        trust=trust(study),
        not_covered=(*not_covered(study), *local_parameters(kept)),
        checklist=checklist(
            study, spent.sentence, ledger_sentence(over_ledger, terms.max_epsilon), audit_statement(audit)
        ),
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
    clipping = report.adaptive_clipping
    drawn = {}
    if clipping and clipping.rounds:
        norms = [row.norms for row in clipping.rounds]
        drawn["clipping"] = figures.clip_norms(norms, [row.round for row in clipping.rounds])
    return {
        **drawn,
        "gauge": gauge(total, spent.max_epsilon, text, f"Gauge: {text} of {allowed}"),
        "spending": figures.spending(
            [row.round for row in charged],
            [row.epsilon_pld or 0.0 for row in charged],
            [row.epsilon_rdp or 0.0 for row in charged],
            [(point.round, point.epsilon_pld) for point in report.planned if point.epsilon_pld is not None],
            spent.max_epsilon,
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


def _family_conditions(only: LedgerSpend | None) -> list[Condition]:
    if only is None or not only.families:
        return []
    return [
        Condition(
            statement="Relatives found among the patients are, together, within what one person may lose.",
            holds=all(one.within_cap is not False and one.within_limit is not False for one in only.families),
            otherwise="amber",
            about="spending",
        )
    ]


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


def _sum_conditions(study: Study, records: Sequence[RoundRecord]) -> list[Condition]:
    """Return what must hold of the sums that a site's updates were opened in; nothing where updates are not masked.

    A bad signature is no failing condition: `read_rounds` refuses it, and there is no report.
    """
    if not study.sends_sums:
        return []
    sent = [record for record in records if record.receipt is not None and record.receipt.status == "accepted"]
    opened = [record for record in sent if record.void is None and record.put_out is None]
    count = sum(record.summed is not None for record in opened)
    return [
        Condition(
            statement=f"Who was in the sum, and that all helpers signed it, was verified in {count} of {len(opened)}"
            " rounds (the admission log tells, 'fedcall fetch-log').",
            holds=count == len(opened),
            otherwise="amber",
            about="records",
        ),
        Condition(
            statement=f"No round was void ({len(sent) - len(opened)} of {len(sent)} were).",
            holds=len(opened) == len(sent),
            otherwise="amber",
            about="records",
        ),
    ]


def _sealed_conditions(study: Study, records: Sequence[RoundRecord]) -> list[Condition]:
    """Return that each update was sealed to a verified enclave, and that the enclave is a real one; nothing else."""
    policy = study.protection.evidence
    if policy is None:
        return []
    sent = [record for record in records if record.receipt is not None and record.claim.outcome == "update"]
    count = sum(record.sealed is not None for record in sent)
    return [
        Condition(
            statement=f"What each update was sealed to was verified again in {count} of {len(sent)} rounds.",
            holds=count == len(sent),
            otherwise="amber",
            about="records",
        ),
        Condition(
            statement="The enclave is a real one: the study's policy names no simulated machine.",
            holds=policy.simulated is None,
            otherwise="amber",
            about="records",
        ),
    ]


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
