"""What a ledger says, as a value to print: counts and epsilons, no names."""

import math
from typing import Literal

from pydantic import BaseModel

from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Exposure, Ledger
from fedcall.privacy.terms import COMMON_DELTA


class Bounds(BaseModel):
    """An epsilon by both accountants; null means infinite. `by` says what `pld` is: over several studies no PLD."""

    pld: float | None
    rdp: float | None
    by: Literal["PLD", "RDP filter"] = "PLD"


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
    common_delta: float = COMMON_DELTA
    most_exposed_at_common_delta: ExposureSummary | None  # epsilons at the common delta


def summarise(ledger: Ledger, delta: float | None = None) -> LedgerSummary:
    """Summarise a ledger; epsilons are at `delta`, or at the smallest delta of any charge."""
    fault = ledger.verify()
    rounds: dict[tuple[str, str, int], RoundSummary] = {}
    sizes = ledger.cohort_sizes()
    rows = list(ledger.rows())
    for row in rows:
        if row.kind == "withdraw":
            continue
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
        exposures=[_exposure(one) for one in exposures],
        most_exposed_at_common_delta=_exposure(ledger.exposures(COMMON_DELTA)[0]) if exposures else None,
    )


def as_text(summary: LedgerSummary) -> str:
    """Return the summary as two tables of at most 80 columns."""
    lines = [f"{summary.rows} rows, head {summary.head[:16]}…", ""]
    if summary.fault:
        lines[1:1] = ["NOT AS IT WAS WRITTEN, so nothing printed below can be relied on:", summary.fault]
    if (worst := summary.most_exposed_at_common_delta) is not None:
        lines[1:1] = [_headline(summary, worst)]
    lines.append(f"{'study':14}{'site':14}{'round':>6}  {'state':9}{'unit':8}{'patients':>9}{'ε PLD':>9}{'ε RDP':>9}")
    for one in summary.rounds:
        lines.append(
            f"{one.study[:12] + '…':14}{_shortened(one.site, 13):14}{one.round:>6}  {one.state:9}{one.event.unit:8}"
            f"{one.patients:>9}{_number(one.epsilon.pld):>9}{_number(one.epsilon.rdp):>9}"
        )
    if summary.exposures:
        lines += ["", f"cumulative, over all studies, at delta {summary.delta:g}; most exposed first", ""]
        lines.append(
            f"{'patients':>9}{'charges':>8}{'ε/patient':>11}{'by':>11}{'RDP':>9}{'ε/example':>11}{'by':>11}{'RDP':>9}"
        )
    for group in summary.exposures:
        lines.append(
            f"{group.patients:>9}{group.releases:>8}{_columns(group.epsilon_per_patient)}"
            f"{_columns(group.epsilon_per_example)}"
        )
    return "\n".join(lines)


def _headline(summary: LedgerSummary, worst: ExposureSummary) -> str:
    first = summary.exposures[0]
    unit = "patient" if first.epsilon_per_patient.pld is not None else "example"
    own, common = (getattr(one, f"epsilon_per_{unit}").pld for one in (first, worst))
    also = "" if summary.delta == COMMON_DELTA else f", {_number(common)} at delta {COMMON_DELTA:g}"
    return f"most exposed: epsilon {_number(own)} at delta {summary.delta:g}{also}, per {unit}"


def _exposure(one: Exposure) -> ExposureSummary:
    return ExposureSummary(
        patients=one.patients,
        releases=one.releases,
        epsilon_per_patient=_bounds(one.patient),
        epsilon_per_example=_bounds(one.example),
    )


def _columns(bounds: Bounds) -> str:
    return f"{_number(bounds.pld):>11}{bounds.by:>11}{_number(bounds.rdp):>9}"


def _bounds(epsilon: Epsilon) -> Bounds:
    return Bounds(pld=_finite(epsilon.pld), rdp=_finite(epsilon.rdp), by=epsilon.by)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"
