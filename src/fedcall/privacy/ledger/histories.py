"""What each patient of a ledger was charged, over all studies, and what it cost (invariant 6)."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger.requests import Exposure
from fedcall.privacy.terms import Unit

History = tuple[tuple[str, int], ...]
"""Charged events as canonical JSON, each with the number of its rounds; sorted, so that equal ones compare equal."""


def histories(database: sqlite3.Connection, wanted: Collection[str] | None = None) -> dict[str, History]:
    """Return the history of each pseudonym that was ever charged; `wanted` names those of interest."""
    charged: dict[str, Counter[str]] = {}
    for row in ledger_chain.read_rows(database):
        if row.kind == "reserve":
            charged.setdefault(row.cohort, Counter())[row.event] += 1
    found: dict[str, Counter[str]] = {}
    for digest, patients in database.execute("SELECT digest, patients FROM cohorts"):
        for patient in json.loads(patients) if digest in charged else ():
            if wanted is None or patient in wanted:
                found.setdefault(patient, Counter()).update(charged[digest])
    return {patient: tuple(sorted(events.items())) for patient, events in found.items()}


def patients_of(database: sqlite3.Connection, study: str) -> set[str]:
    """Return the pseudonyms that a study has charged."""
    rows = ledger_chain.read_rows(database)
    cohorts = {row.cohort for row in rows if row.kind == "reserve" and row.study == study}
    patients: set[str] = set()
    for digest, names in database.execute("SELECT digest, patients FROM cohorts"):
        patients |= set(json.loads(names)) if digest in cohorts else set()
    return patients


def events_of(history: History) -> list[tuple[Event, int]]:
    """Return a history as events, for `accounting.compose`."""
    return [(Event.from_json(event), count) for event, count in history]


def most_exposed(
    charged: Mapping[str, History], cohort: Sequence[str], planned: Mapping[str, int], delta: float, unit: Unit
) -> Epsilon:
    """Return the largest epsilon of a patient of the cohort, after the planned events (JSON: rounds), too."""
    worst = Epsilon(0.0, 0.0)
    for history in {charged.get(patient, ()) for patient in cohort}:
        events = Counter(dict(history)) + Counter(planned)
        found = compose(events_of(tuple(events.items())), delta, unit)
        worst = max(worst, found, key=lambda epsilon: epsilon.pld)
    return worst


def exposures(charged: Mapping[str, History], delta: float) -> list[Exposure]:
    """Return what each group of patients with the same history was charged, the most exposed first."""
    found = []
    for history, patients in Counter(charged.values()).items():
        events = events_of(history)
        releases = sum(count for _, count in events)
        per_patient, per_example = (compose(events, delta, unit) for unit in ("patient", "example"))
        found.append(Exposure(patients, releases, per_patient, per_example))
    return sorted(found, key=lambda one: (one.patient.pld, one.example.pld), reverse=True)
