"""What a ledger can be asked, over all studies; nothing here writes."""

import sqlite3
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np

from fedcall.errors import PrivacyRefusal
from fedcall.files import sha256_file
from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.privacy.accounting.filter import Charge
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger.chain import ChainFault, LedgerRow
from fedcall.privacy.ledger.cohorts import Cohort, read_documents
from fedcall.privacy.ledger.file import connect_to_read, transaction
from fedcall.privacy.ledger.histories import Standing, read_histories
from fedcall.privacy.ledger.people import PeopleKeys
from fedcall.privacy.ledger.registry import read_registry
from fedcall.privacy.ledger.requests import Exposure, Member
from fedcall.privacy.mechanism.noise import derive_key
from fedcall.privacy.terms import Unit


class LedgerView:
    """An open ledger, to be asked; a context manager. `Ledger` charges as well."""

    def __init__(self, path: Path, database: sqlite3.Connection, secret: bytes | None) -> None:
        self.path = path
        self._database = database
        self._head = path.with_name(path.name + ".head")
        self._artefacts = path.with_name(path.name + ".artefacts")
        self._seal_key = derive_key(secret, b"ledger", b"seal") if secret else None
        self._keys = PeopleKeys.of(secret)

    @classmethod
    def open_to_read(cls, path: Path, secret: bytes | None = None) -> Self:
        """Open an existing ledger to look at it; nothing can be written. The secret is needed only to check seals."""
        path = Path(path)
        return cls(path, connect_to_read(path), secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def knows(self, name: str) -> bool:
        """Say whether somebody of this name was ever charged, or listed."""
        return bool(read_histories(self._database).columns.get(self._keys.pseudonym(name)) is not None) or bool(
            read_registry(self._database).named(self._keys.pseudonym(name))
        )

    def withdrawn(self, names: Iterable[str]) -> list[str]:
        """Return those of the named people who took their consent back."""
        registry = read_registry(self._database)
        return [name for name in names if registry.people.get(self._keys.pseudonym(name)) in registry.withdrawn]

    def rows(self) -> Iterator[LedgerRow]:
        """Yield every row, oldest first."""
        yield from ledger_chain.read_rows(self._database)

    def verify(self) -> ChainFault | None:
        """Return the first row that is not as it was written, or None. Seals are checked if the secret is known."""
        with self._transaction("DEFERRED"):  # one view of rows and cohorts
            return ledger_chain.find_fault(self._database, self._head, self._seal_key)

    @property
    def head(self) -> str:
        """Digest of the newest row; 64 zeros in an empty ledger."""
        row = self._database.execute("SELECT digest FROM rows ORDER BY number DESC LIMIT 1").fetchone()
        return row[0] if row else ledger_chain.GENESIS

    def has_row(self, digest: str) -> bool:
        """Say whether a row with this digest is in the chain; 64 zeros stand before the first row of any chain."""
        found = self._database.execute("SELECT 1 FROM rows WHERE digest = ?", (digest,)).fetchone()
        return digest == ledger_chain.GENESIS or found is not None

    def last_release(self, study: str, site: str, before: int) -> Path | None:
        """Return the artefact of the last round before `before` that a site released in a study; None if there is none.

        Raises
        ------
        PrivacyRefusal
            If the artefact is gone.
        """
        rows = [
            row
            for row in self.rows()
            if row.kind == "release" and (row.study, row.site) == (study, site) and row.round < before
        ]
        if not rows:
            return None
        last = max(rows, key=lambda row: row.round)
        artefact = self._artefact(last)
        if artefact is None:
            raise PrivacyRefusal(
                f"{self._artefacts / last.artefact}: the release of round {last.round} is gone, and round {before}"
                " starts from it; run that round again first, it is the same release"
            )
        return artefact

    def cohort_sizes(self) -> dict[str, int]:
        """Return the number of people charged in each cohort that rows name."""
        return {digest: Cohort.from_json(text).size() for digest, text in read_documents(self._database).items()}

    def exposures(self, delta: float) -> list[Exposure]:
        """Return what each group of people with the same history has been charged, the most exposed first."""
        groups: Counter[Standing] = Counter()
        for standing, people in self.standings().items():
            groups[Standing(standing.charges)] += people
        found = [
            Exposure(
                people,
                sum(count for _, _, count in one.charges),
                one.epsilon(delta, "patient"),
                one.epsilon(delta, "example"),
            )
            for one, people in groups.items()
        ]
        return sorted(found, key=lambda one: (one.patient.pld, one.example.pld), reverse=True)

    def standings(self, study: str | None = None, rounds: Container[int] | None = None) -> Counter[Standing]:
        """Return charges and limits, over all studies, of those whom `study` has charged, with the number of people.

        `rounds` asks for those whom it has charged in these rounds. If the study has charged nobody there yet, those of
        everybody: any of them may be its next.
        """
        return read_histories(self._database).standings(study, rounds)

    def charges_of_groups(self, groups: Iterable[Iterable[str]]) -> list[tuple[Charge, ...]]:
        """Return what at least one of each group's people was charged: each event with the number of its rounds.

        A round counts once, whoever of a group took part in it: this bounds what they lost together.
        """
        histories = read_histories(self._database)
        rows = [row for row in self.rows() if row.kind == "reserve"]
        found = []
        for names in groups:
            columns = [histories.columns[one] for one in map(self._keys.pseudonym, names) if one in histories.columns]
            rounds: Counter[tuple[str, str]] = Counter()
            for row in rows:
                if np.isin(columns, histories.rounds[row.study, row.round]).any():
                    rounds[row.study, row.event] += 1
            charges = ((study, Event.from_json(event), count) for (study, event), count in rounds.items())
            found.append(tuple(charges))
        return found

    def charges_by_study(self) -> dict[str, tuple[tuple[tuple[Event, int], ...], ...]]:
        """Return for each study what its people were charged, those who were charged least left out."""
        histories = read_histories(self._database)
        return {study: histories.charges_in(study) for study in dict.fromkeys(study for study, _ in histories.plans)}

    def charged_in(self, study: str, number: int) -> int:
        """Return how many people a round of a study charged. Stays at the site."""
        return len(read_histories(self._database).rounds.get((study, number), ()))

    def exhausted(self, study: str) -> dict[int, int]:
        """Return how many people had spent their budget in each round that a study charged. Stays at the site."""
        documents = read_documents(self._database)
        return {
            row.round: len(Cohort.from_json(documents[row.cohort]).exhausted)
            for row in self.rows()
            if row.kind == "reserve" and row.study == study
        }

    def charged_private(self, members: Iterable[Member]) -> list[Member]:
        """Return those who were charged as private people before, by name or by data: they are never public."""
        histories = read_histories(self._database)
        registry, charged = histories.registry, np.asarray(histories.counts.any(axis=0))
        private = set(np.flatnonzero(histories.of_unknown_privacy).tolist()) | registry.private
        found = []
        for member in members:
            names = {self._keys.pseudonym(member.person), self._keys.pseudonym(member.patient)}
            columns = {histories.columns[name] for name in names if name in histories.columns}
            columns |= {registry.owners[one] for one in self._keys.fingerprints(member) if one in registry.owners}
            if any(charged[column] and column in private for column in columns):
                found.append(member)
        return found

    def epsilon(self, patients: Iterable[str], delta: float, unit: Unit) -> Epsilon:
        """Return the cumulative epsilon of the most exposed of the named people."""
        histories = read_histories(self._database)
        columns = [histories.columns.get(self._keys.pseudonym(name)) for name in patients]
        standings = {histories.standing(column) for column in columns if column is not None}
        bounds = [standing.epsilon(delta, unit) for standing in standings]
        return max(bounds, key=lambda bound: bound.pld, default=Epsilon(0.0, 0.0))

    def _artefact(self, release: LedgerRow) -> Path | None:
        stored = self._artefacts / release.artefact
        return stored if holds(stored, release.artefact) else None

    def _transaction(self, mode: str = "IMMEDIATE") -> AbstractContextManager[None]:
        return transaction(self._database, self.path, mode)


def holds(path: Path, digest: str) -> bool:
    """Say whether a file is there with this SHA-256."""
    return path.is_file() and sha256_file(path) == digest
