"""What each person of a ledger was charged, over all studies, and which limits hold for whom."""

import sqlite3
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.privacy.accounting.filter import Charge, cumulative_epsilon, cumulative_loss
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger.chain import LedgerRow
from fedcall.privacy.ledger.cohorts import Cohort, read_documents
from fedcall.privacy.ledger.limits import Limit, both_limits
from fedcall.privacy.ledger.registry import PatientRegistry, read_registry
from fedcall.privacy.terms import Unit

NOBODY = -1


@dataclass(frozen=True)
class Standing:
    """What a person was charged, the first study first, and the limits that hold for that person for ever."""

    charges: tuple[Charge, ...] = ()
    agreed_first: tuple[Limit, ...] = ()  # before anything of the person was released
    agreed_later: tuple[Limit, ...] = ()

    def epsilon(self, delta: float, unit: Unit, cap: float | None = None) -> Epsilon:
        """Return what the charges cost, as it is compared with a cap if one is given."""
        return cumulative_epsilon(self.charges, delta, unit, cap, self._is_first(delta, unit, cap))

    def loss(self, chance: float, unit: Unit, cap: float | None = None) -> float:
        """Return a privacy loss that the charges pass with a probability of at most `chance`."""
        return cumulative_loss(self.charges, chance, unit, cap, self._is_first(chance, unit, cap))

    def _is_first(self, delta: float, unit: Unit, cap: float | None) -> bool:
        return cap is None or any(
            limit.implies(Limit(epsilon=cap, delta=delta, unit=unit)) for limit in self.agreed_first
        )

    def charged(self, study: str, event: Event, rounds: int, limits: Iterable[Limit] = ()) -> "Standing":
        """Return the standing after further rounds, under further limits."""
        counts = Counter({(of, what): count for of, what, count in self.charges})
        counts[study, event] += rounds
        is_first = not self.charges or self.charges[0][0] == study
        first, later = list(self.agreed_first), list(self.agreed_later)
        for limit in limits:
            if limit not in first:
                (first if is_first else later).append(limit)
        charges = tuple((of, what, count) for (of, what), count in counts.items())
        return Standing(charges, tuple(dict.fromkeys(first)), tuple(dict.fromkeys(later)))

    def is_within_limits(self) -> bool:
        """Say whether every limit is kept, each at its own delta and unit."""
        implied = [limit for limit in self.agreed_later if any(one.implies(limit) for one in self.agreed_first)]
        judged = [(limit, True) for limit in self.agreed_first]
        judged += [(limit, False) for limit in self.agreed_later if limit not in implied]
        return not any(
            cumulative_epsilon(
                self._charges(limit.if_broken), limit.delta, limit.unit, limit.epsilon, is_first
            ).exceeds(limit.epsilon)
            for limit, is_first in judged
        )

    def epsilon_if_broken(self, delta: float, unit: Unit) -> Epsilon:
        """Return what the charges cost if coordinator and helpers saw updates with their share of the noise alone."""
        return cumulative_epsilon(self._charges(True), delta, unit)

    def _charges(self, if_broken: bool) -> tuple[Charge, ...]:
        if not if_broken:
            return self.charges
        return tuple((study, event.alone(), count) for study, event, count in self.charges)


@dataclass
class Histories:
    """Everybody's charges and limits as tables: a column for each person.

    Attributes
    ----------
    columns : pseudonym -> column; people of the registry first, by their numbers
    plans : (study, event as JSON), in the order of their first charges
    counts : int32, shape (plans, people): rounds in which a person was charged
    limits : every limit there ever was
    holds : bool, shape (limits, people): whether a limit was agreed for a person, at any time
    is_first : bool, shape (limits, people): whether that was in the person's first study
    first : int64, shape (people,): the plan of a person's first charge, or NOBODY
    merged : columns that are another name of somebody else
    of_unknown_privacy : bool, shape (people,): charged by an older fedcall, which did not note who is private
    rounds : (study, round) -> columns of the people charged in it
    """

    registry: PatientRegistry
    columns: dict[str, int]
    plans: list[tuple[str, str]]
    limits: list[Limit]
    merged: set[int] = field(default_factory=set)
    rounds: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        people = len(self.columns)
        self.counts = np.zeros((len(self.plans), people), np.int32)
        self.holds = np.zeros((len(self.limits), people), bool)
        self.is_first = np.zeros_like(self.holds)
        self.first = np.full(people, NOBODY)
        self.of_unknown_privacy = np.zeros(people, bool)

    def plan(self, study: str, event: str) -> int:
        """Return the place of a plan, which is added if new."""
        if (study, event) not in self.plans:
            self.plans.append((study, event))
            self.counts = np.vstack([self.counts, np.zeros((1, self.counts.shape[1]), np.int32)])
        return self.plans.index((study, event))

    def limit(self, limit: Limit) -> int:
        """Return the place of a limit, which is added if new."""
        if limit not in self.limits:
            self.limits.append(limit)
            nobody = np.zeros((1, self.holds.shape[1]), bool)
            self.holds, self.is_first = np.vstack([self.holds, nobody]), np.vstack([self.is_first, nobody])
        return self.limits.index(limit)

    def first_study_is(self, study: str) -> np.ndarray:
        """Say for each person whether the first study is this one, or none yet: bool, shape (people,)."""
        own = [place for place, (of, _) in enumerate(self.plans) if of == study]
        return np.isin(self.first, [NOBODY, *own])

    def agree(self, people: np.ndarray, study: str, limits: Iterable[Limit]) -> None:
        """Let limits hold for people (columns) for ever."""
        is_first = self.first_study_is(study)
        for limit in limits:
            place = self.limit(limit)
            self.holds[place, people] = True
            self.is_first[place, people] |= is_first[people]

    def charge(self, people: np.ndarray, study: str, event: str) -> None:
        """Charge people (columns) for a round."""
        place = self.plan(study, event)
        self.counts[place, people] += 1
        self.first[people] = np.where(self.first[people] == NOBODY, place, self.first[people])

    def standing(self, column: int) -> Standing:
        """Return one person's charges and limits."""
        first = int(self.first[column])
        order = sorted(
            np.flatnonzero(self.counts[:, column]).tolist(),
            key=lambda place: (place != first, self.plans[place][0] != self.plans[first][0], place),
        )
        charges = tuple(
            (self.plans[place][0], Event.from_json(self.plans[place][1]), int(self.counts[place, column]))
            for place in order
        )
        held = np.flatnonzero(self.holds[:, column])
        return Standing(
            charges,
            tuple(self.limits[place] for place in held if self.is_first[place, column]),
            tuple(self.limits[place] for place in held if not self.is_first[place, column]),
        )

    def standings(self, of_study: str | None = None, rounds: Container[int] | None = None) -> Counter[Standing]:
        """Return the standings of everybody who was charged, each with the number of people who have it.

        `of_study` asks for those whom a study has charged, in some of its rounds if `rounds` are given; if it has
        charged nobody there, for everybody.
        """
        charged = np.asarray(self.counts.any(axis=0))
        charged[sorted(self.merged)] = False
        wanted = np.zeros(len(charged), bool)
        for (study, number), people in self.rounds.items():
            if study == of_study and (rounds is None or number in rounds):
                wanted[people] = True
        wanted &= charged
        people = np.flatnonzero(wanted if wanted.any() else charged)
        if not len(people):
            return Counter()
        table = np.vstack([self.counts, self.holds, self.is_first, self.first[None]])[:, people].astype(np.int32)
        _, places, sizes = np.unique(table.T, axis=0, return_index=True, return_counts=True)
        found: Counter[Standing] = Counter()
        for place, size in zip(people[places], sizes, strict=True):
            found[self.standing(int(place))] += int(size)
        return found

    def charges_in(self, study: str) -> tuple[tuple[tuple[Event, int], ...], ...]:
        """Return what single people were charged in a study: each event with its number of rounds.

        Whose charges are all among another's is left out: the most exposed person is one of those returned.
        """
        own = [place for place, (of, _) in enumerate(self.plans) if of == study]
        table = np.unique(self.counts[own].T, axis=0)
        charged = [one for one in table if one.any()]
        kept = [one for one in charged if not any((one <= other).all() for other in charged if other is not one)]
        events = [Event.from_json(self.plans[place][1]) for place in own]
        return tuple(
            tuple((event, int(count)) for event, count in zip(events, one, strict=True) if count) for one in kept
        )


def read_histories(
    database: sqlite3.Connection, registry: PatientRegistry | None = None, has_pooled: bool = False
) -> Histories:
    """Return everybody's charges; charges under another name of a person are that person's, too.

    `registry` may hold people who are not stored yet. `has_pooled`: pooled noise is about to be charged.
    """
    registry = registry or read_registry(database)
    rows = [row for row in ledger_chain.read_rows(database) if row.kind == "reserve"]
    documents = read_documents(database)
    cohorts = {digest: Cohort.from_json(documents[digest]) for digest in {row.cohort for row in rows}}
    columns = dict(registry.people)
    for digest in dict.fromkeys(row.cohort for row in rows):
        for pseudonym in cohorts[digest].pseudonyms or ():
            columns.setdefault(pseudonym, len(columns))
    plans = list(dict.fromkeys((row.study, row.event) for row in rows))
    has_pooled = has_pooled or any(Event.from_json(text).shares is not None for text in {row.event for row in rows})
    limits = dict.fromkeys(limit for row in rows for limit in _limits(row, cohorts[row.cohort], has_pooled))
    histories = Histories(registry, columns, plans, list(limits))
    names = _other_names(registry, columns)
    histories.merged = {other for other, people in names.items() if people}
    members = {digest: _members(cohort, columns, names) for digest, cohort in cohorts.items()}
    for row in rows:
        people, cohort = members[row.cohort], cohorts[row.cohort]
        histories.agree(people, row.study, _limits(row, cohort, has_pooled))
        histories.charge(people, row.study, row.event)
        histories.rounds[row.study, row.round] = people
        if cohort.pseudonyms is not None:
            histories.of_unknown_privacy[people] = True
    return histories


def _other_names(registry: PatientRegistry, columns: dict[str, int]) -> dict[int, set[int]]:
    """Return column of a name -> columns of the people who were listed under it, directly or through others."""
    direct: dict[int, set[int]] = {}
    for person, aliases in registry.aliases.items():
        for alias in aliases:
            if alias in columns and columns[alias] != person:
                direct.setdefault(columns[alias], set()).add(person)
    found = {}
    for name, people in direct.items():
        reached, to_see = set(people), list(people)
        while to_see:
            further = direct.get(to_see.pop(), set()) - reached
            reached |= further
            to_see += further
        found[name] = reached - {name}
    return found


def _members(cohort: Cohort, columns: dict[str, int], names: dict[int, set[int]]) -> np.ndarray:
    if cohort.pseudonyms is None:
        people = cohort.charged
    else:
        people = np.array(sorted(columns[pseudonym] for pseudonym in cohort.pseudonyms), np.int64)
    others = {other for name in set(people.tolist()) & names.keys() for other in names[name]}
    return np.union1d(people, np.array(sorted(others), np.int64)).astype(np.int64) if others else people


def _limits(row: LedgerRow, cohort: Cohort, has_pooled: bool) -> list[Limit]:
    own = both_limits(cohort.limit, has_pooled) if cohort.limit else ()
    broken = [cohort.cap_if_broken] if cohort.cap_if_broken else []
    return [*own, *_cap(row.max_epsilon, row.delta, row.event), *broken]


@lru_cache(maxsize=4096)
def _cap(epsilon: str, delta: str, event: str) -> tuple[Limit, ...]:
    if not epsilon:
        return ()
    return (Limit(epsilon=float(epsilon), delta=float(delta), unit=Event.from_json(event).unit),)
