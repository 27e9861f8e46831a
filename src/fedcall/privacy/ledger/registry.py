"""Who the ledger knows: people by pseudonym, other names they were listed under, and fingerprints of their data.

Entries are only ever added. What a row of the ledger was charged to (`cohorts`) names the number of entries there were
and the SHA-256 of all of them, so the chain and the seal of the rows cover the registry, too. Names and fingerprints
are kept as keyed hashes: without the site's secret nobody can try names or data against them.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SCHEMA = """
CREATE TABLE IF NOT EXISTS registry (
    number INTEGER PRIMARY KEY,     -- 1, 2, 3, ...
    kind TEXT NOT NULL,             -- person | alias | data | private | withdrawn
    person INTEGER NOT NULL,        -- 0, 1, 2, ... in the order of the entries of kind 'person'
    value TEXT NOT NULL             -- keyed hash of a name or of data; empty if kind is private or withdrawn
) STRICT;
"""
Entry = tuple[str, int, str]


@dataclass
class PatientRegistry:
    """All entries, looked up both ways; `new` holds those that are not stored yet."""

    people: dict[str, int] = field(default_factory=dict)  # pseudonym -> number of the person
    aliases: dict[int, list[str]] = field(default_factory=dict)  # person -> pseudonyms of other names
    owners: dict[str, int] = field(default_factory=dict)  # keyed fingerprint of data -> person
    private: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)  # who took the consent back, and contributes nothing ever after
    entries: list[Entry] = field(default_factory=list)
    stored: int = 0

    def person(self, pseudonym: str) -> int:
        """Return the number of a person, who is entered if new."""
        if pseudonym not in self.people:
            self.add("person", len(self.people), pseudonym)
        return self.people[pseudonym]

    def add(self, kind: str, person: int, value: str) -> None:
        """Add an entry."""
        self._know(kind, person, value)
        self.entries.append((kind, person, value))

    def named(self, pseudonym: str) -> list[int]:
        """Return who has a name, or else everybody who was listed under it."""
        if pseudonym in self.people:
            return [self.people[pseudonym]]
        return [person for person, aliases in self.aliases.items() if pseudonym in aliases]

    def is_known_as(self, person: int, pseudonym: str) -> bool:
        """Say whether a person has, or was listed under, a name."""
        return self.people.get(pseudonym) == person or pseudonym in self.aliases.get(person, ())

    @property
    def digest(self) -> str:
        """SHA-256 of all entries."""
        return hashlib.sha256(_lines(self.entries)).hexdigest()

    def store(self, database: sqlite3.Connection) -> None:
        """Store the new entries; the caller holds the write lock."""
        new = [(number, *entry) for number, entry in enumerate(self.entries, start=1)][self.stored :]
        database.executemany("INSERT INTO registry VALUES (?, ?, ?, ?)", new)
        self.stored = len(self.entries)

    def _know(self, kind: str, person: int, value: str) -> None:
        if kind == "person":
            self.people[value] = person
        elif kind == "alias":
            self.aliases.setdefault(person, []).append(value)
        elif kind == "data":
            self.owners[value] = person
        elif kind == "private":
            self.private.add(person)
        elif kind == "withdrawn":
            self.withdrawn.add(person)


def read_registry(database: sqlite3.Connection) -> PatientRegistry:
    """Return what the ledger knows; nothing in a ledger that an older fedcall wrote."""
    registry = PatientRegistry()
    for entry in read_entries(database):
        registry._know(*entry)
        registry.entries.append(entry)
    registry.stored = len(registry.entries)
    return registry


def read_entries(database: sqlite3.Connection) -> list[Entry]:
    """Return all entries in order."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'registry'").fetchone():
        return []
    return database.execute("SELECT kind, person, value FROM registry ORDER BY number").fetchall()


def digests_at(entries: list[Entry], counts: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yield for each count, ascending, the digest of so many first entries; stops where there are too few."""
    done, running = 0, hashlib.sha256()
    for count in sorted(set(counts)):
        if count > len(entries):
            return
        running.update(_lines(entries[done:count]))
        done = count
        yield count, running.copy().hexdigest()


def _lines(entries: Iterable[Entry]) -> bytes:
    return "".join(f"{kind} {person} {value}\n" for kind, person, value in entries).encode()
