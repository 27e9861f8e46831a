"""The individual filter of a ledger with many people and charges, against a composition of each person from scratch.

The ledger is made in one process and charged in another, so that the memory told is that of a charge and nothing else.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.privacy.events import Event
from fedcall.privacy.ledger.cohorts import sealed
from fedcall.privacy.ledger.ledger import Ledger, ReleaseRequest
from fedcall.privacy.ledger.people import enter
from fedcall.privacy.ledger.registry import read_registry

PEER_PEOPLE = 20  # composed by the peer; the rest is extrapolated
STUDIES = 20
MOST_SECONDS, MOST_MB = 2.0, 200.0  # what a charge may take
_SECRET = bytes(range(32))
_EVENTS = tuple(
    Event(unit="patient", mechanism="gaussian", noise_multiplier=20.0 + study, sampling_rate=0.25, steps=10)
    for study in range(STUDIES)
)


class LedgerBenchmark(BaseModel):
    """Processor seconds and memory of one charge in a ledger that is not empty, in a process of its own."""

    people: int
    charges: int  # in the ledger before
    histories: int  # different ones among the people
    charged: int  # of the people, by the measured round; the others had spent their budget
    filter_seconds: float  # processor time of `reserve`: check of the chain, filter, charge
    process_mb: float  # peak of resident memory of the whole process
    filter_mb: float  # of that, above what it was before the charge: the libraries alone
    peer: str = "dp-accounting, RDP composed from scratch for each person, extrapolated"
    peer_people: int
    peer_seconds: float
    ratio: float


class _Grown(Ledger):
    """A ledger that is filled without being asked who may be charged: honest charges would take minutes to make."""

    def grow(self, requests: Iterable[ReleaseRequest]) -> None:
        """Charge everybody in many rounds at once, whatever the limits."""
        with self._transaction():
            registry, kept = read_registry(self._database), {}
            for request in requests:
                if request.patients not in kept:
                    everybody = np.array(enter(registry, request.members, self._keys, self.path), np.int64)
                    registry.store(self._database)
                    nobody = np.empty(0, np.int64)
                    kept[request.patients] = self._keep(sealed(everybody, nobody, None, registry).to_json())
                self._append("reserve", request, kept[request.patients])
        self._write_head()


def benchmark_ledger(people: int = 10_000, charges: int = 1_000) -> LedgerBenchmark:
    """Charge a round in a ledger of `people` people whom 20 studies charged `charges` times, half of them in each."""
    taken = _taken(people)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            pool.apply(_grow, (path, people, charges))
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            seconds, before, peak, charged = pool.apply(_charge, (path, people))
    each = charges // STUDIES
    peer = sum(
        _compose([(_EVENTS[study], each) for study in np.flatnonzero(taken[:, person])])
        for person in range(PEER_PEOPLE)
    )
    extrapolated = peer / PEER_PEOPLE * people
    return LedgerBenchmark(
        people=people,
        charges=charges,
        histories=len(np.unique(taken, axis=1).T),
        charged=charged,
        filter_seconds=seconds,
        process_mb=peak,
        filter_mb=peak - before,
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
            f"{'reserve (processor seconds)':<50}{result.filter_seconds:>10.2f}  (at most {MOST_SECONDS:g})",
            f"{'peak memory of its process (MB)':<50}{result.process_mb:>10.0f}  (at most {MOST_MB:g})",
            f"{'of that, beyond the libraries (MB)':<50}{result.filter_mb:>10.0f}",
            f"dp-accounting, RDP from scratch, {result.peer_people} people measured,"
            f" extrapolated to all: {result.peer_seconds:.0f} s",
            f"ratio {result.ratio:.0f}",
        ]
    )


def _taken(people: int) -> np.ndarray:
    """Return who was in which study: bool, shape (studies, people)."""
    return np.random.default_rng(1).random((STUDIES, people)) < 0.5


def _request(people: int) -> ReleaseRequest:
    names = tuple(f"person-{number}" for number in range(people))
    return ReleaseRequest("", "north", 1, _EVENTS[0], 1e-5, 4.0, names, "f" * 64)


def _grow(path: Path, people: int, charges: int) -> None:
    taken, request = _taken(people), _request(people)
    names = np.array(request.patients)
    with _Grown.open(path, _SECRET) as ledger:
        ledger.grow(
            replace(
                request,
                study=f"{number % STUDIES:064x}",
                round=1 + number // STUDIES,
                event=_EVENTS[number % STUDIES],
                patients=tuple(names[taken[number % STUDIES]].tolist()),
            )
            for number in range(charges)
        )


def _charge(path: Path, people: int) -> tuple[float, float, float, int]:
    """Return processor seconds of a charge, memory before and at its peak (MB), and how many people it charged."""
    event = Event(unit="patient", mechanism="gaussian", noise_multiplier=10.0, sampling_rate=0.25, steps=10)
    request = replace(_request(people), study="f" * 64, event=event)
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "other.sqlite", _SECRET) as other:
        # Imports and the curves of events, once per process.
        for one in (*_EVENTS, event):
            other.reserve(replace(request, patients=("somebody",), study=one.to_json()[-64:], event=one))
    with Ledger.open(path, _SECRET) as ledger:
        before, start = _peak_mb(), time.process_time()
        answer = ledger.reserve(request)
        seconds = time.process_time() - start
    return seconds, before, _peak_mb(), len(answer.charged)


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
