"""What is asked of a ledger and what it answers, and when two requests are the same release."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger.chain import Row

FACTS = ("event", "delta", "max_epsilon", "cohort", "inputs")


@dataclass(frozen=True)
class ReleaseRequest:
    """What a site wants to release: one round of one study."""

    study: str  # digest of the study
    site: str
    round: int
    event: Event
    delta: float
    max_epsilon: float | None  # cap on the cumulative epsilon of every patient; None without a cap
    patients: tuple[str, ...]  # names; the ledger keeps keyed hashes of them
    inputs: str  # keyed digest of everything the release depends on (`noise.keyed_digest`)


@dataclass(frozen=True)
class Reservation:
    """The ledger's answer."""

    state: Literal["reserved", "released", "withheld"]
    epsilon: Epsilon  # of the most exposed patient, this release included, per unit of the request
    sentence: str
    head: str  # digest of the row that decided, the newest of the chain at that moment
    artefact: Path | None = None  # the stored artefact, when state is "released"


@dataclass(frozen=True)
class Exposure:
    """Patients with the same history, and what it cost them."""

    patients: int
    releases: int
    patient: Epsilon  # what one patient's whole data is protected by; infinite after example-level releases
    example: Epsilon  # what one example is protected by


def facts(row: Row) -> tuple[str, ...]:
    """Return what must be equal when a round is asked for again: the values that FACTS names."""
    return (row.event, row.delta, row.max_epsilon, row.cohort, row.inputs)


def facts_of(request: ReleaseRequest, cohort: list[str]) -> tuple[str, ...]:
    """Return the facts of the row that a request becomes; `cohort` holds its pseudonyms, sorted."""
    cap = "" if request.max_epsilon is None else repr(float(request.max_epsilon))
    cohort_digest = ledger_chain.cohort_digest(json.dumps(cohort))
    return (request.event.to_json(), repr(float(request.delta)), cap, cohort_digest, request.inputs)


def is_about(row: Row, request: ReleaseRequest) -> bool:
    """Say whether a row tells of the round that is requested."""
    return (row.study, row.site, row.round) == (request.study, request.site, request.round)


def withheld_sentence(request: ReleaseRequest, epsilon: Epsilon) -> str:
    """Return why a request cannot be charged."""
    cap = f"max_epsilon {request.max_epsilon:g} at delta {request.delta:g}"
    if epsilon.is_finite:
        return f"the most exposed {request.event.unit} would reach epsilon {epsilon.pld:.3f}, above {cap}"
    return (
        f"the ledger holds releases that leave a {request.event.unit} without any finite epsilon (made without noise,"
        f" or per example), so {cap} can never be kept for these patients"
    )
