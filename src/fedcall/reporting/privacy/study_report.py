"""The privacy report of a study: the reports of its sites side by side."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.privacy.accounting.epsilon import compose, largest_loss
from fedcall.privacy.accounting.membership import membership
from fedcall.privacy.events import round_event
from fedcall.privacy.terms import COMMON_DELTA
from fedcall.reporting.base.gauge import gauge
from fedcall.reporting.base.pages import round_up
from fedcall.reporting.privacy.audit import audit_conditions, audit_statement
from fedcall.reporting.privacy.checklist import checklist, not_covered, software, trust
from fedcall.reporting.privacy.documents import (
    Audit,
    Condition,
    PrivacyReport,
    Refusal,
    SiteClipping,
    SiteSpend,
    Statement,
    StudyPrivacyReport,
)
from fedcall.reporting.privacy.site_report import study_facts
from fedcall.reporting.privacy.spending import Told, example_warning, if_broken_clause, rounds_that_fit, spend_sentence
from fedcall.reporting.privacy.traffic_light import colour, spending_conditions, traffic_light
from fedcall.study.terms import Study

REFUSED = ("rejected", "quarantined")


def read_privacy_report(path: Path) -> PrivacyReport:
    """Read a site's report; errors name the file."""
    try:
        return PrivacyReport.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such report; make it with 'fedcall report privacy'") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not a site's privacy report: {describe(error)}") from None


def study_privacy_report(
    study: Study, reports: Sequence[PrivacyReport], audit: Audit | None = None
) -> StudyPrivacyReport:
    """Put the sites' reports together; of each, only what concerns this study is used.

    Raises
    ------
    FedcallError
        If there is no report, one is about another study, or a site is there twice or not part of the study.
    """
    _check(study, reports)
    terms = study.privacy
    by_site = {report.site: report for report in reports}
    ordered = [by_site[site.name] for site in study.sites if site.name in by_site]
    missing = tuple(site.name for site in study.sites if site.name not in by_site)
    largest = _largest([report.spent.epsilon_pld for report in ordered])
    largest_rdp = _largest([report.spent.epsilon_rdp for report in ordered])
    fits = rounds_that_fit(study, max(report.spent.releases for report in ordered))
    left = max(report.spent.rounds_left_in_plan for report in ordered)
    refusals = tuple(
        Refusal(site=report.site, round=row.round, status=row.status, reason=row.reason, sentence=row.sentence)
        for report in ordered
        for row in report.rounds
        if row.status in (*REFUSED, "withheld", "void")
    )
    sites = tuple(_site_spend(study, report) for report in ordered)
    where = "" if len(ordered) == 1 else ", at the most exposed of " + f"{len(ordered)} sites"
    releases = max(report.spent.releases for report in ordered)
    events = [(round_event(terms), releases)]
    common = None if largest is None else compose(events, COMMON_DELTA).pld
    sentence = spend_sentence(terms.unit, Told(largest, terms.delta, common), terms.max_epsilon)
    sentence = sentence.replace("total privacy loss so far", "privacy loss in this study so far", 1) + where
    sentence += if_broken_clause(study, releases) + "."
    sentence = sentence.replace("is ε", "is at most ε", 1) + example_warning(terms.unit)
    conditions = [
        *spending_conditions(largest, terms.max_epsilon, fits, left, terms.unit),
        Condition(
            statement="Every site of the study has reported"
            + (f" (missing: {', '.join(missing)})." if missing else "."),
            holds=not missing,
            otherwise="amber",
            about="records",
        ),
        Condition(
            statement="No site's own light is red.",
            holds=all(site.light != "red" for site in sites),
            otherwise="red",
            about="records",
        ),
        Condition(
            statement="The aggregator refused no update.",
            holds=not any(refusal.status in REFUSED for refusal in refusals),
            otherwise="amber",
            about="records",
        ),
        *audit_conditions(audit),
    ]
    return StudyPrivacyReport(
        study=study_facts(study),
        sentence=sentence,
        unit=terms.unit,
        delta=terms.delta,
        max_epsilon=terms.max_epsilon,
        largest_epsilon_pld=largest,
        largest_epsilon_rdp=largest_rdp,
        largest_epsilon_common=common,
        membership=membership(largest, terms.delta, largest_loss(events, terms.delta)),
        light=traffic_light(
            conditions,
            {
                "green": "The study may go on.",
                "amber": "Look at the conditions that fail before the study goes on.",
                "red": "The study must not go on.",
            },
        ),
        rounds_done=max((row.round for report in ordered for row in report.rounds), default=0),
        updates=sum(site.accepted for site in sites),
        refused=sum(site.refused for site in sites),
        withheld=sum(site.withheld for site in sites),
        missing=missing,
        sites=sites,
        refusals=refusals,
        terms=terms,
        adaptive_clipping=tuple(_site_clipping(report) for report in ordered if report.adaptive_clipping),
        audit=audit,
        trust=trust(study),
        not_covered=not_covered(study),
        checklist=checklist(
            study,
            sentence,
            "Each site's ledger holds each of its people to this study's cap, to the hospital's own limit and to every"
            " limit the person was ever charged under, over all studies and for ever; whoever has spent the budget"
            " contributes nothing, and nobody outside is told. What people lost in other studies depends on who they"
            " are and stays at the site.",
            audit_statement(audit),
        ),
        commands=_commands(),
        software=software(),
    )


def study_privacy_figures(report: StudyPrivacyReport) -> dict[str, str]:
    """Draw the gauge of the most exposed site."""
    largest = report.largest_epsilon_pld
    text = f"ε {round_up(largest)}" if largest is not None else "ε unlimited"
    allowed = f"{report.max_epsilon:g} allowed" if report.max_epsilon is not None else "no agreed cap"
    return {"gauge": gauge(largest, report.max_epsilon, text, f"Gauge: {text} of {allowed}")}


def _check(study: Study, reports: Sequence[PrivacyReport]) -> None:
    if not reports:
        raise FedcallError("no site's privacy report was given; name at least one privacy.json")
    seen: set[str] = set()
    for report in reports:
        study.site(report.site)
        if report.study.sha256 != study.digest:
            found = f"{report.study.name} {report.study.sha256[:12]}…"
            raise FedcallError(
                f"the privacy report of site '{report.site}' is about study {found}, not {study.name}"
                f" {study.digest[:12]}…; make it again with this study"
            )
        if report.site in seen:
            raise FedcallError(f"site '{report.site}' has two privacy reports here; give one per site")
        seen.add(report.site)


def _site_spend(study: Study, report: PrivacyReport) -> SiteSpend:
    def count(*statuses: str) -> int:
        return sum(1 for row in report.rounds if row.status in statuses)

    # The site's own light may know of other studies; here its spending is judged by this study alone.
    spent = report.spent
    fits = rounds_that_fit(study, spent.releases)
    cap, left = study.privacy.max_epsilon, spent.rounds_left_in_plan
    conditions = spending_conditions(spent.epsilon_pld, cap, fits, left, spent.unit)
    conditions += [condition for condition in report.light.conditions if condition.about == "records"]
    return SiteSpend(
        site=report.site,
        patients_declared=report.patients_declared,
        releases=spent.releases,
        epsilon_pld=spent.epsilon_pld,
        epsilon_rdp=spent.epsilon_rdp,
        accepted=count("accepted"),
        withheld=count("withheld"),
        refused=count(*REFUSED),
        waiting=count("waiting"),
        light=colour(conditions),
    )


def _site_clipping(report: PrivacyReport) -> SiteClipping:
    found = report.adaptive_clipping
    assert found is not None
    return SiteClipping(
        site=report.site,
        budget_share=found.budget_share,
        sum_multiplier=found.sum_multiplier,
        rounds=len(found.rounds),
        start=found.rounds[0].start if found.rounds else None,
        end=found.rounds[-1].end if found.rounds else None,
    )


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _commands() -> tuple[Statement, ...]:
    rows = (
        ("The study is the one all sites signed", "fedcall study check --study study.json"),
        ("The aggregator's record of receipts and refusals", "fedcall aggregator status --state STATE"),
        ("Refused updates, with their reasons", "fedcall quarantine list --state STATE"),
        ("The planned spend, before anything runs", "fedcall privacy plan --study STUDY.yaml"),
    )
    return tuple(Statement(topic=what, statement=command) for what, command in rows)
