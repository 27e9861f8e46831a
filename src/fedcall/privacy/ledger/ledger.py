"""The site's record of every release, ever, over all studies and reruns: reserve before training, release after.

Order of events, each durable before the next (invariant 5): `reserve` charges the whole round; training; the artefact
(update and claim) is stored beside the ledger; the release row is written; only then does anything leave the site.
A crash anywhere leaves the round charged, and the same request again costs nothing.

The ledger stores events, never epsilons, and pseudonyms, never names. SQLite in WAL mode shares memory between
processes, so all that use one ledger must run on one machine at a time, on a file system with working POSIX locks.
`ledger_file` opens the database, `ledger_chain` says how rows are protected, `ledger_histories` what each patient was
charged, and `accounting` how charges add up: composition takes the events as fixed in advance, which a study's rounds
are; a study whose terms were chosen after seeing another's results on the same patients is an adaptive choice, for
which RDP filters (Feldman and Zrnic 2021) are the proven tool: look at RDP then.
"""

import hashlib
import hmac
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import sha256_file, write_bytes
from fedcall.privacy.accounting.epsilon import Epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger import histories as ledger_histories
from fedcall.privacy.ledger.chain import Fault, Kind, Row
from fedcall.privacy.ledger.file import connect, connect_to_read, transaction
from fedcall.privacy.ledger.requests import (
    FACTS,
    Exposure,
    ReleaseRequest,
    Reservation,
    facts,
    facts_of,
    is_about,
    withheld_sentence,
)
from fedcall.privacy.mechanism.noise import derive_key
from fedcall.privacy.terms import Unit

__all__ = ["Exposure", "Ledger", "ReleaseRequest", "Reservation"]


class Ledger:
    """An open ledger. Use `Ledger.open(path, secret)`; it is also a context manager."""

    def __init__(self, path: Path, database: sqlite3.Connection, secret: bytes | None) -> None:
        self.path = path
        self._database = database
        self._head = path.with_name(path.name + ".head")
        self._artefacts = path.with_name(path.name + ".artefacts")
        self._seal_key = derive_key(secret, b"ledger", b"seal") if secret else None
        self._name_key = derive_key(secret, b"ledger", b"patients") if secret else None

    @classmethod
    def open(cls, path: Path, secret: bytes) -> Self:
        """Open a ledger for writing, creating it (mode 0600) if there is none.

        Raises
        ------
        FedcallError
            If the file is no ledger, or its folder cannot be written.
        """
        path = Path(path)
        return cls(path, connect(path), secret)

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

    def reserve(self, request: ReleaseRequest, stand_down: str = "") -> Reservation:
        """Charge a round before it is trained, or say why it must not be.

        `stand_down` is a reason not to train a round that was not charged yet: it is then withheld.

        Returns
        -------
        Reservation
            "reserved": charged, train now; again the same after a crash, without a second charge.
            "released": the artefact of this very release exists; return it, do not train.
            "withheld": the cap of some patient would be passed, or `stand_down`; nothing was charged.

        Raises
        ------
        PrivacyRefusal
            If this round was already charged for other inputs (its release would be a second one), or if the
            ledger is not as it was written.

        Notes
        -----
        The cap is compared with the PLD epsilon of the most exposed patient over all rows of all studies, at the
        request's delta and unit. Example-level or noiseless history leaves a patient without any finite epsilon, so
        a capped patient-level study on such patients is withheld for good; see `accounting.compose`.
        """
        cohort = self._pseudonyms(request.patients)
        with self._transaction():
            self._refuse_if_bad()
            previous = [row for row in ledger_chain.read_rows(self._database) if is_about(row, request)]
            charges = [row for row in previous if row.kind == "reserve"]
            if charges:
                self._refuse_if_different(charges[0], request, cohort)
                epsilon = self._worst(request, cohort, included=True)
                return self._charged(charges[0], previous[-1], epsilon)
            epsilon = self._worst(request, cohort, included=False)
            withheld = bool(stand_down) or epsilon.exceeds(request.max_epsilon)
            last = previous[-1] if previous else None
            if not withheld:
                last = self._append("reserve", request, cohort)
            elif last is None or facts(last) != facts_of(request, cohort):  # else: the same refusal again
                last = self._append("withhold", request, cohort)
            assert last is not None
        self._update_head()
        if withheld:
            return Reservation("withheld", epsilon, stand_down or withheld_sentence(request, epsilon), last.digest)
        return Reservation("reserved", epsilon, f"round {request.round} is charged; train now", last.digest)

    def release(self, request: ReleaseRequest, artefact: bytes) -> Path:
        """Store what is released, durably, then mark the round released; return the stored file.

        Raises
        ------
        PrivacyRefusal
            If the round was not reserved with these inputs, or another artefact was released for it.
        """
        cohort = self._pseudonyms(request.patients)
        digest = hashlib.sha256(artefact).hexdigest()
        target = self._artefacts / digest
        with self._transaction():
            self._refuse_if_bad()
            rows = [row for row in ledger_chain.read_rows(self._database) if is_about(row, request)]
            charges = [row for row in rows if row.kind == "reserve"]
            if not charges:
                raise PrivacyRefusal(f"{self._where(request)} was never reserved; reserve it before training")
            self._refuse_if_different(charges[0], request, cohort)
            released = [row for row in rows if row.kind == "release"]
            if released and released[0].artefact != digest:
                raise PrivacyRefusal(
                    f"{self._where(request)} was released as another artefact ({released[0].artefact[:12]}…, this one"
                    f" is {digest[:12]}…); two releases of one round are never made, restore the first from"
                    f" {self._artefacts}"
                )
            self._artefacts.mkdir(mode=0o700, exist_ok=True)
            if not _holds(target, digest):
                write_bytes(target, artefact)
            if not released:
                self._append("release", request, cohort, digest)
        self._update_head()
        return target

    def rows(self) -> Iterator[Row]:
        """Yield every row, oldest first."""
        yield from ledger_chain.read_rows(self._database)

    def verify(self) -> Fault | None:
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
        """Return the number of patients of each cohort that rows name."""
        cohorts = self._database.execute("SELECT digest, json_array_length(patients) FROM cohorts")
        return dict(cohorts.fetchall())

    def exposures(self, delta: float) -> list[Exposure]:
        """Return what each group of patients with the same history has been charged, the most exposed first."""
        return ledger_histories.exposures(ledger_histories.histories(self._database), delta)

    def histories(self, study: str) -> list[tuple[tuple[Event, int], ...]]:
        """Return the distinct charged histories, over all studies, of the patients that `study` has charged.

        If the study has charged nobody yet, those of all patients: any of them may be its next.
        """
        return list(self.history_counts(study))

    def history_counts(self, study: str | None) -> dict[tuple[tuple[Event, int], ...], int]:
        """Return the histories that `histories` returns, each with the number of patients who have it."""
        of_study = ledger_histories.patients_of(self._database, study) if study else None
        counted = Counter(ledger_histories.histories(self._database, of_study or None).values())
        return {tuple(ledger_histories.events_of(history)): people for history, people in sorted(counted.items())}

    def epsilon(self, patients: Iterable[str], delta: float, unit: Unit) -> Epsilon:
        """Return the cumulative epsilon of the most exposed of the named patients."""
        return self._most_exposed(self._pseudonyms(patients), {}, delta, unit)

    def _charged(self, charge: Row, last: Row, epsilon: Epsilon) -> Reservation:
        if last.kind == "reserve":
            sentence = "already charged and not yet released; train again at no cost"
        elif (stored := self._artefact(last)) is not None:
            sentence = "already released; the stored artefact is returned"
            return Reservation("released", epsilon, sentence, charge.digest, stored)
        else:
            sentence = "already released, but its artefact is gone: only the same bytes can be released"
        return Reservation("reserved", epsilon, sentence, charge.digest)

    def _artefact(self, release: Row) -> Path | None:
        stored = self._artefacts / release.artefact
        return stored if _holds(stored, release.artefact) else None

    def _worst(self, request: ReleaseRequest, cohort: list[str], included: bool) -> Epsilon:
        planned = {} if included else {request.event.to_json(): 1}
        return self._most_exposed(cohort, planned, request.delta, request.event.unit)

    def _most_exposed(self, cohort: list[str], planned: dict[str, int], delta: float, unit: Unit) -> Epsilon:
        charged = ledger_histories.histories(self._database, set(cohort))
        return ledger_histories.most_exposed(charged, cohort, planned, delta, unit)

    def _append(self, kind: Kind, request: ReleaseRequest, cohort: list[str], artefact: str = "") -> Row:
        assert self._seal_key is not None
        patients = json.dumps(cohort)
        digest = ledger_chain.cohort_digest(patients)
        self._database.execute("INSERT OR IGNORE INTO cohorts VALUES (?, ?)", (digest, patients))
        count, previous = self._database.execute("SELECT count(*) FROM rows").fetchone()[0], self.head
        agreed = dict(zip(FACTS, facts_of(request, cohort), strict=True))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        draft = Row(
            number=count + 1, kind=kind, study=request.study, site=request.site, round=request.round, **agreed,
            artefact=artefact, time=now, previous=previous, digest="", seal="",
        )  # fmt: skip
        values = {name: getattr(draft, name) for name in ledger_chain.COLUMNS}
        values["digest"] = draft.content_digest
        values["seal"] = ledger_chain.seal_of(self._seal_key, values["digest"])
        row = Row(**values)
        ledger_chain.insert_row(self._database, row)
        return row

    def _update_head(self) -> None:
        """Bring the head file up to date, under the write lock so that it never goes back."""
        with self._transaction():
            self._write_head()

    def _write_head(self) -> None:
        row = self._database.execute("SELECT number, digest FROM rows ORDER BY number DESC LIMIT 1").fetchone()
        if row and row != ledger_chain.read_head(self._head):
            ledger_chain.write_head(self._head, *row)

    def _pseudonyms(self, patients: Iterable[str]) -> list[str]:
        if self._name_key is None:
            raise ValueError("a ledger opened without the secret knows no patients.")
        names = set(patients)
        if not names:
            raise FedcallError("a release needs at least one patient; check the sheet of samples")
        return sorted(hmac.new(self._name_key, name.encode(), hashlib.sha256).hexdigest()[:32] for name in names)

    def _refuse_if_bad(self) -> None:
        fault = ledger_chain.find_fault(self._database, self._head, self._seal_key)
        if fault:
            raise PrivacyRefusal(
                f"{self.path}: {fault.sentence}; nothing is trained on a ledger that cannot be trusted,"
                " restore its newest backup"
            )
        self._write_head()  # a crash after the last commit may have left it one row behind

    def _refuse_if_different(self, charged: Row, request: ReleaseRequest, cohort: list[str]) -> None:
        if facts(charged) != facts_of(request, cohort):
            different = [
                name
                for name, old, new in zip(FACTS, facts(charged), facts_of(request, cohort), strict=True)
                if old != new
            ]
            raise PrivacyRefusal(
                f"{self._where(request)} was charged for other inputs (different: {', '.join(different)}); training"
                " again would be a second release of the same round, restore the inputs or go on with the next round"
            )

    def _where(self, request: ReleaseRequest) -> str:
        return f"{self.path}: round {request.round} of site '{request.site}' in study {request.study[:12]}…"

    def _transaction(self, mode: str = "IMMEDIATE") -> AbstractContextManager[None]:
        return transaction(self._database, self.path, mode)


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest
