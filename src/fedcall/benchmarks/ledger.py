"""The individual filter of a ledger with many people and charges, against a composition of each person from scratch."""

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest

PEER_PEOPLE = 20  # composed by the peer; the rest is extrapolated
STUDIES = 20
_SECRET = bytes(range(32))


class LedgerBenchmark(BaseModel):
    """Processor seconds and memory of one charge in a ledger that is not empty."""

    people: int
    charges: int  # in the ledger before
    histories: int  # different ones among the people
    charged: int  # of the people, by the measured round; the others had spent their budget
    filter_seconds: float  # processor time of `reserve`: check of the chain, filter, charge
    filter_mb: float  # peak of resident memory above what the process had before
    peer: str = "dp-accounting, RDP composed from scratch for each person, extrapolated"
    peer_people: int
    peer_seconds: float
    ratio: float


def benchmark_ledger(people: int = 10_000, charges: int = 1_000) -> LedgerBenchmark:
    """Charge a round in a ledger of `people` people whom 20 studies charged `charges` times, half of them in each."""
    random = np.random.default_rng(1)
    names = np.array([f"person-{number}" for number in range(people)])
    taken = random.random((STUDIES, people)) < 0.5
    events = [
        Event(unit="patient", mechanism="gaussian", noise_multiplier=20.0 + study, sampling_rate=0.25, steps=10)
        for study in range(STUDIES)
    ]
    request = ReleaseRequest("", "north", 1, events[0], 1e-5, 4.0, tuple(names), "f" * 64)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.sqlite", _SECRET) as ledger:
        # Appended without the filter, and the chain checked once: 1,000 honest charges would take minutes to make.
        ledger.seed(
            [
                replace(
                    request,
                    study=f"{number % STUDIES:064x}",
                    round=1 + number // STUDIES,
                    event=events[number % STUDIES],
                    patients=tuple(names[taken[number % STUDIES]]),
                )
                for number in range(charges)
            ]
        )
        event = Event(unit="patient", mechanism="gaussian", noise_multiplier=10.0, sampling_rate=0.25, steps=10)
        asked = replace(request, study="f" * 64, event=event)
        ledger.epsilon(names[:1], 1e-5, "patient")  # imports and curves of events: once per process
        before, start = _peak_mb(), time.process_time()
        answer = ledger.reserve(asked)
        seconds, memory = time.process_time() - start, _peak_mb() - before
    each = charges // STUDIES
    peer = sum(
        _compose([(events[study], each) for study in np.flatnonzero(taken[:, person])]) for person in range(PEER_PEOPLE)
    )
    extrapolated = peer / PEER_PEOPLE * people
    return LedgerBenchmark(
        people=people,
        charges=charges,
        histories=len(np.unique(taken, axis=1).T),
        charged=len(answer.charged),
        filter_seconds=seconds,
        filter_mb=memory,
        peer_people=PEER_PEOPLE,
        peer_seconds=extrapolated,
        ratio=extrapolated / seconds,
    )


def as_text(result: LedgerBenchmark) -> str:
    """Return the result as a few lines."""
    return "\n".join(
        [
            f"{result.people} people with {result.histories} histories, {result.charges} charges before;"
            f" the round charged {result.charged}",
            f"{'reserve (processor seconds)':<50}{result.filter_seconds:>10.2f}",
            f"{'memory beyond the start of it (MB)':<50}{result.filter_mb:>10.0f}",
            f"dp-accounting, RDP from scratch, {result.peer_people} people measured,"
            f" extrapolated to all: {result.peer_seconds:.0f} s",
            f"ratio {result.ratio:.0f}",
        ]
    )


def _compose(plans: list[tuple[Event, int]]) -> float:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    start = time.process_time()
    accountant = RdpAccountant()
    for event, rounds in plans:
        step = PoissonSampledDpEvent(event.sampling_rate, GaussianDpEvent(event.noise_multiplier))
        accountant.compose(step, event.steps * rounds)
    accountant.get_epsilon(1e-5)
    return time.process_time() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
