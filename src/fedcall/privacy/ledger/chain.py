"""The rows of the ledger: what is written, how rows are chained, and how tampering shows.

Each row holds the SHA-256 of the row before it, so an edited, deleted or inserted row breaks the chain at a row that
can be named; `seal` is an HMAC of that digest under a key derived from the site's secret, so that whoever lacks the
secret cannot recompute a whole chain. A file `<ledger>.head` names the newest row, so a ledger cut short shows too.
What none of this can show is an old copy of the ledger restored together with its head file: the aggregator's own
record of accepted updates is the second line of defence there.
"""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import rfc8785

from fedcall.files import write_text
from fedcall.privacy.ledger import cohorts as ledger_cohorts
from fedcall.privacy.ledger import registry as ledger_registry
from fedcall.privacy.ledger.cohorts import Cohort, read_documents
from fedcall.privacy.ledger.registry import digests_at, read_entries

GENESIS = "0" * 64
EntryKind = Literal["reserve", "withhold", "release", "withdraw"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS cohorts (
    digest TEXT PRIMARY KEY,        -- SHA-256 of the patients column; of older ledgers (newer: memberships)
    patients TEXT NOT NULL          -- JSON list of pseudonyms, sorted
) STRICT;
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY,     -- 1, 2, 3, ...
    kind TEXT NOT NULL,             -- reserve | withhold | release | withdraw
    study TEXT NOT NULL,            -- digest of the study
    site TEXT NOT NULL,
    round INTEGER NOT NULL,
    event TEXT NOT NULL,            -- canonical JSON of the event
    delta TEXT NOT NULL,            -- shortest decimal that reads back as the same number
    max_epsilon TEXT NOT NULL,      -- as delta; empty without a cap
    cohort TEXT NOT NULL,           -- digest of the patients involved
    inputs TEXT NOT NULL,           -- keyed digest of everything the release depends on
    artefact TEXT NOT NULL,         -- SHA-256 of what was released; empty unless kind is release
    time TEXT NOT NULL,             -- UTC
    previous TEXT NOT NULL,         -- digest of the row before, 64 zeros at the start
    digest TEXT NOT NULL,           -- SHA-256 of all columns above
    seal TEXT NOT NULL              -- HMAC-SHA256 of digest
) STRICT;
"""
SCHEMA += ledger_registry.SCHEMA + ledger_cohorts.SCHEMA


@dataclass(frozen=True)
class LedgerRow:
    """One fact, never changed: a charge (reserve), a refusal to charge (withhold), a release, or a withdrawal.

    A withdrawal is of no study: study, site and event are empty, and the round is 0.
    """

    number: int
    kind: EntryKind
    study: str
    site: str
    round: int
    event: str
    delta: str
    max_epsilon: str
    cohort: str
    inputs: str
    artefact: str
    time: str
    previous: str
    digest: str
    seal: str

    @property
    def content_digest(self) -> str:
        """The digest that this row should carry."""
        values = {name: getattr(self, name) for name in COLUMNS[:-2]}
        return hashlib.sha256(rfc8785.dumps(values)).hexdigest()


COLUMNS = tuple(LedgerRow.__dataclass_fields__)


@dataclass(frozen=True)
class ChainFault:
    """The first row that is not as it was written, and what is wrong with it."""

    number: int
    sentence: str


def seal_of(key: bytes, digest: str) -> str:
    """Return the HMAC that only the site can make."""
    return hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()


def read_rows(database: sqlite3.Connection) -> Iterator[LedgerRow]:
    """Yield all rows in order."""
    for values in database.execute(f"SELECT {', '.join(COLUMNS)} FROM rows ORDER BY number"):
        yield LedgerRow(*values)


def insert_row(database: sqlite3.Connection, row: LedgerRow) -> None:
    """Append a row; the caller holds the write lock."""
    values = [getattr(row, name) for name in COLUMNS]
    database.execute(f"INSERT INTO rows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})", values)


def find_fault(database: sqlite3.Connection, head: Path, key: bytes | None) -> ChainFault | None:
    """Check every row, every cohort and the head file; `key` also checks the seals.

    Returns
    -------
    ChainFault or None
        The first bad row, or None if the ledger is as it was written.
    """
    expected = GENESIS
    cohorts = read_documents(database)
    problems = _cohort_problems(database, cohorts)
    written_number, written_digest = read_head(head)
    number = 0
    for number, row in enumerate(read_rows(database), start=1):
        if row.number != number:
            return ChainFault(number, f"row {number} is missing (row {row.number} stands in its place)")
        if row.previous != expected:
            return ChainFault(number, f"row {number} does not continue the row before it")
        if row.digest != row.content_digest:
            return ChainFault(number, f"row {number} was edited: its content does not match its digest")
        if key is not None and not hmac.compare_digest(row.seal, seal_of(key, row.digest)):
            return ChainFault(number, f"row {number} was not written with this site's secret")
        if row.cohort not in cohorts or problems[row.cohort]:
            return ChainFault(number, f"the list of patients of row {number} was edited or deleted")
        if number == written_number and row.digest != written_digest:
            return ChainFault(number, f"row {number} is not the one that {head.name} names")
        expected = row.digest
    if written_digest == "unreadable":
        return ChainFault(number, f"{head.name} cannot be read, so rows after {number} may be missing")
    if number < written_number:
        return ChainFault(number + 1, f"row {number + 1} is missing: {head.name} says there were {written_number} rows")
    if number > written_number + 1:  # every append first brings the head file up to date, so one row is the most
        return ChainFault(written_number + 2, f"{head.name} is missing or old: it says there are {written_number} rows")
    return None


def _cohort_problems(database: sqlite3.Connection, documents: dict[str, str]) -> dict[str, bool]:
    """Say of each list of people whether it, or the registry it counts on, is not as it was written."""
    named = {}
    bad = {digest: cohort_digest(document) != digest for digest, document in documents.items()}
    for digest, document in documents.items():
        if not bad[digest] and (cohort := Cohort.from_json(document)).pseudonyms is None:
            named[digest] = (cohort.entries, cohort.registry)
    entries = read_entries(database)
    found = dict(digests_at(entries, (count for count, _ in named.values())))
    newest = max((count for count, _ in named.values()), default=0)
    for digest, (count, registry) in named.items():
        bad[digest] = found.get(count) != registry or (count == newest and len(entries) != newest)
    return bad


def read_head(head: Path) -> tuple[int, str]:
    """Return number and digest of the newest row that was recorded; (0, 64 zeros) if none was."""
    try:
        content = json.loads(head.read_text())
        return int(content["number"]), str(content["digest"])
    except FileNotFoundError:
        return 0, GENESIS
    except (ValueError, KeyError, TypeError):
        return 0, "unreadable"


def write_head(head: Path, number: int, digest: str) -> None:
    """Record the newest row beside the ledger."""
    write_text(head, json.dumps({"number": number, "digest": digest}) + "\n")


def cohort_digest(patients: str) -> str:
    """Return the digest of a cohort from its JSON list of pseudonyms."""
    return hashlib.sha256(patients.encode()).hexdigest()
