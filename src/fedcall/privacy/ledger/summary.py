"""What a ledger says, as a value to print: counts and epsilons, no names."""

import math
from typing import Literal

from pydantic import BaseModel

from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger


class Bounds(BaseModel):
    """An epsilon by both accountants; null means infinite."""

    pld: float | None
    rdp: float | None


class RoundSummary(BaseModel):
    """One round of one study at one site."""

    study: str
    site: str
    round: int
    state: Literal["reserved", "released", "withheld"]
    patients: int
    event: Event
    delta: float
    max_epsilon: float | None
    epsilon: Bounds  # of this round alone, per unit of its event
    time: str
    artefact: str | None


class ExposureSummary(BaseModel):
    """Patients with the same history."""

    patients: int
    releases: int
    epsilon_per_patient: Bounds
    epsilon_per_example: Bounds


class LedgerSummary(BaseModel):
    """Everything `fedcall ledger show` prints."""

    rows: int
    head: str
    fault: str | None
    delta: float | None
    rounds: list[RoundSummary]
    exposures: list[ExposureSummary]  # the most exposed first


def summarise(ledger: Ledger, delta: float | None = None) -> LedgerSummary:
    """Summarise a ledger; epsilons are at `delta`, or at the smallest delta of any charge."""
    fault = ledger.verify()
    rounds: dict[tuple[str, str, int], RoundSummary] = {}
    sizes = ledger.cohort_sizes()
    rows = list(ledger.rows())
    for row in rows:
        event = Event.from_json(row.event)
        rounds[row.study, row.site, row.round] = RoundSummary(
            study=row.study,
            site=row.site,
            round=row.round,
            state={"reserve": "reserved", "release": "released", "withhold": "withheld"}[row.kind],
            patients=sizes.get(row.cohort, 0),
            event=event,
            delta=float(row.delta),
            max_epsilon=float(row.max_epsilon) if row.max_epsilon else None,
            epsilon=_bounds(compose([(event, 1)], float(row.delta))),
            time=row.time,
            artefact=row.artefact or None,
        )
    charged = [float(row.delta) for row in rows if row.kind == "reserve"]
    used = delta or min(charged, default=None)
    exposures = ledger.exposures(used) if used else []
    return LedgerSummary(
        rows=len(rows),
        head=ledger.head,
        fault=fault.sentence if fault else None,
        delta=used,
        rounds=list(rounds.values()),
        exposures=[
            ExposureSummary(
                patients=one.patients,
                releases=one.releases,
                epsilon_per_patient=_bounds(one.patient),
                epsilon_per_example=_bounds(one.example),
            )
            for one in exposures
        ],
    )


def as_text(summary: LedgerSummary) -> str:
    """Return the summary as two tables of at most 80 columns."""
    lines = [f"{summary.rows} rows, head {summary.head[:16]}…", ""]
    if summary.fault:
        lines[1:1] = ["NOT AS IT WAS WRITTEN, so nothing printed below can be relied on:", summary.fault]
    lines.append(f"{'study':14}{'site':14}{'round':>6}  {'state':9}{'unit':8}{'patients':>9}{'ε PLD':>9}{'ε RDP':>9}")
    for one in summary.rounds:
        lines.append(
            f"{one.study[:12] + '…':14}{_shortened(one.site, 13):14}{one.round:>6}  {one.state:9}{one.event.unit:8}"
            f"{one.patients:>9}{_number(one.epsilon.pld):>9}{_number(one.epsilon.rdp):>9}"
        )
    if summary.exposures:
        lines += ["", f"cumulative, over all studies, at delta {summary.delta:g}; most exposed first", ""]
        lines.append(f"{'patients':>9}{'charges':>9}{'ε/patient PLD':>15}{'RDP':>10}{'ε/example PLD':>15}{'RDP':>10}")
    for group in summary.exposures:
        lines.append(
            f"{group.patients:>9}{group.releases:>9}{_number(group.epsilon_per_patient.pld):>15}"
            f"{_number(group.epsilon_per_patient.rdp):>10}{_number(group.epsilon_per_example.pld):>15}"
            f"{_number(group.epsilon_per_example.rdp):>10}"
        )
    return "\n".join(lines)


def _bounds(epsilon: Epsilon) -> Bounds:
    return Bounds(pld=_finite(epsilon.pld), rdp=_finite(epsilon.rdp))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
