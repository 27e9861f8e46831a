"""The coordinator's dashboard: how a study is doing, who is awaited or refused, and what each round changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.federation.aggregator.model_change import model_change
from fedcall.federation.aggregator.operation import interventions, open_state, refusals, study_status
from fedcall.federation.aggregator.study_log import StudyLog
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.events import round_event
from fedcall.privacy.terms import COMMON_DELTA, Unit
from fedcall.reporting.base import figures
from fedcall.reporting.privacy.documents import Epsilon, Statement, StudyFacts, Text
from fedcall.reporting.privacy.site_report import study_facts
from fedcall.reporting.privacy.spending import Told, example_warning, finite, if_broken_clause
from fedcall.study.terms import Name

Count = Annotated[int, Field(ge=0)]


class SiteRow(Document):
    """One site, as the aggregator sees it."""

    site: Name
    patients: Count = Field(description="Declared; a public number.")
    answer: str | None = Field(description="Its answer in the open round; null while it is awaited.")
    accepted_rounds: Count
    refusals: Count
    quarantined: bool


class RoundRow(Document):
    """One round."""

    round: int
    accepted: Count
    refused: Count
    withheld: Count
    change: float | None = Field(description="L2 norm of what the round changed in the model; null while it is open.")
    relative_change: float | None = Field(description="That, divided by the norm of the model going into the round.")


class RefusalRow(Document):
    """One refused update."""

    id: str
    time: str
    site: Name
    round: int
    status: str
    reason: str
    sentence: str


class InterventionRow(Document):
    """What an operator did to a site."""

    time: str
    site: Name
    action: str
    operator: str
    reason: str


class Dashboard(Document):
    """A study as its coordinator sees it; nothing in it depends on a patient but through admitted updates."""

    kind: Literal["dashboard"] = "dashboard"
    format: Literal[1] = 1
    study: StudyFacts
    sentence: Text
    done: bool
    open_round: int
    alive: bool
    log_head: str
    sites: tuple[SiteRow, ...]
    rounds: tuple[RoundRow, ...]
    refusals: tuple[RefusalRow, ...] = Field(description="Oldest first.")
    interventions: tuple[InterventionRow, ...] = Field(description="Sites set aside or released, oldest first.")
    spending: Text = Field(description="What a unit of a site that takes part has lost by this study, in a sentence.")
    unit: Unit
    delta: float
    rounds_counted: Count = Field(description="Rounds that are closed or open: what a site may have charged by now.")
    epsilon_pld: Epsilon = Field(description="Of a unit whose site took part in all of them, by PLD.")
    epsilon_common: Epsilon = Field(description="The same at delta 10^-5.")
    commands: tuple[Statement, ...]


def dashboard(state: Path) -> Dashboard:
    """Read an aggregator's state folder, running or not.

    Raises
    ------
    FedcallError
        If no aggregator has kept its state there, or the state is damaged.
    """
    study, log = open_state(state)
    status = study_status(state)
    sites = tuple(
        SiteRow(patients=study.site(row["site"]).patients, **{key: row[key] for key in _SITE_KEYS})
        for row in status["sites"]
    )
    terms, counted = study.privacy, min(log.open_round, study.rounds)
    spent, common = (
        finite(compose([(round_event(terms), counted)], delta).pld) for delta in (terms.delta, COMMON_DELTA)
    )
    told = Told(spent, terms.delta, common)
    return Dashboard(
        study=study_facts(study),
        sentence=_sentence(study.rounds, log, sites),
        spending=_spent(terms.unit, told, counted, if_broken_clause(study, counted)),
        unit=terms.unit,
        delta=terms.delta,
        rounds_counted=counted,
        epsilon_pld=spent,
        epsilon_common=common,
        done=status["done"],
        open_round=log.open_round,
        alive=status["alive"],
        log_head=status["log_head"],
        sites=sites,
        rounds=_rounds(Path(state), study.rounds, log, [site.site for site in sites]),
        refusals=tuple(RefusalRow(**row) for row in refusals(state)),
        interventions=tuple(InterventionRow(**row) for row in interventions(state)),
        commands=(
            Statement(topic="The log is unbroken", statement=f"fedcall aggregator log verify --state {state}"),
            Statement(topic="Refused updates", statement=f"fedcall quarantine list --state {state}"),
        ),
    )


def dashboard_figures(report: Dashboard) -> dict[str, str]:
    """Draw how much each round changed the model."""
    closed = [row for row in report.rounds if row.relative_change is not None]
    if not closed:
        return {}
    return {"changes": figures.changes([row.round for row in closed], [row.relative_change or 0.0 for row in closed])}


_SITE_KEYS = ("site", "answer", "accepted_rounds", "refusals", "quarantined")


def _sentence(rounds: int, log: StudyLog, sites: Sequence[SiteRow]) -> str:
    refused = sum(site.refusals for site in sites)
    told = f"{refused} update{'' if refused == 1 else 's'} refused so far" if refused else "No update was refused"
    if log.closed is not None:
        return f"Closed after round {log.closed.round} of {rounds} by {log.closed.operator}: {log.closed.reason}."
    if log.open_round > rounds:
        return f"The study is done: {rounds} of {rounds} rounds. {told}."
    waiting = [site.site for site in sites if site.answer is None and not site.quarantined]
    answered = sum(site.answer is not None for site in sites)
    text = f"Round {log.open_round} of {rounds} is open: {answered} of {len(sites)} sites have answered"
    return f"{text}{', waiting for ' + ', '.join(waiting) if waiting else ''}. {told}."


def _spent(unit: str, told: Told, rounds: int, if_broken: str) -> str:
    whose = f"a {unit} of a site that took part in all {rounds} rounds so far" if rounds > 1 else f"a {unit} so far"
    if told.epsilon is None:
        return f"Nothing bounds the privacy loss of {whose}."
    return f"The privacy loss of {whose} is at most {told}{if_broken}, by this study alone.{example_warning(unit)}"


def _rounds(state: Path, planned: int, log: StudyLog, sites: Sequence[str]) -> tuple[RoundRow, ...]:
    rows = []
    for number in range(1, min(log.open_round, planned) + 1):
        change = model_change(state, number) if number < log.open_round else None
        settled = [decision for site in sites if (decision := log.site(site).settled.get(number)) is not None]
        rows.append(
            RoundRow(
                round=number,
                accepted=sum(one.entry.status == "accepted" and not one.is_refused for one in settled),
                refused=sum(one.is_refused and one.entry.round == number for one in log.decisions),
                withheld=sum(one.entry.status == "withheld" for one in settled),
                change=change.norm if change else None,
                relative_change=change.relative if change else None,
            )
        )
    return tuple(rows)
