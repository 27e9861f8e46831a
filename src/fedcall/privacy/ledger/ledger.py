"""The site's record of every release, ever, over all studies and reruns: reserve before training, release after.

Order of events, each durable before the next (invariant 5): `reserve` charges the whole round; training; the artefact
(update and claim) is stored beside the ledger; the release row is written; only then does anything leave the site.
A crash anywhere leaves the round charged, and the same request again costs nothing.

The ledger charges people. Who has spent the budget contributes nothing and is not charged, and nobody outside learns
of it (`individual_filter`); that is decided when a round is charged and kept with the row, and never decided anew.
The ledger stores events, never epsilons, and pseudonyms, never names. SQLite in WAL mode shares memory between
processes, so all that use one ledger must run on one machine at a time, on a file system with working POSIX locks.
`view` says what can be asked, `file` opens the database, `chain` says how rows are protected, `people` and `registry`
whom the ledger knows, `histories` what each person was charged, and `accounting` how charges add up.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import write_bytes
from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.ledger import chain as ledger_chain
from fedcall.privacy.ledger.chain import EntryKind, LedgerRow
from fedcall.privacy.ledger.cohorts import Cohort, read_documents, sealed
from fedcall.privacy.ledger.file import connect
from fedcall.privacy.ledger.histories import Standing, read_histories
from fedcall.privacy.ledger.individual_filter import may_be_charged
from fedcall.privacy.ledger.people import enter
from fedcall.privacy.ledger.registry import read_registry
from fedcall.privacy.ledger.requests import (
    FACTS,
    Exposure,
    Member,
    ReleaseRequest,
    Reservation,
    facts,
    facts_of,
    is_about,
    withheld_sentence,
)
from fedcall.privacy.ledger.view import LedgerView, holds

__all__ = ["Exposure", "Ledger", "Member", "ReleaseRequest", "Reservation", "Standing"]


class Ledger(LedgerView):
    """An open ledger that charges. Use `Ledger.open(path, secret)`; it is also a context manager."""

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

    def reserve(self, request: ReleaseRequest, stand_down: str = "") -> Reservation:
        """Charge a round before it is trained, or say why it must not be.

        `stand_down` is a reason not to train a round that was not charged yet: it is then withheld.

        Returns
        -------
        Reservation
            "reserved": charged, train now on those it names; again the same after a crash, without a second charge.
            "released": the artefact of this very release exists; return it, do not train.
            "withheld": this study's own rounds would pass its cap, or `stand_down`; nothing was charged.

        Raises
        ------
        PrivacyRefusal
            If this round was already charged for other inputs (its release would be a second one), if data of one
            person is given as another's, or if the ledger is not as it was written.

        Notes
        -----
        Each person is held to the study's cap, to the hospital's own limit and to every limit the person was ever
        charged under, each at its own delta and unit (`individual_filter`). Whoever would pass one is left out without
        a word to anybody. Whether the round is made at all follows from public numbers alone.
        """
        with self._transaction():
            self._refuse_if_bad()
            previous = [row for row in ledger_chain.read_rows(self._database) if is_about(row, request)]
            charges = [row for row in previous if row.kind == "reserve"]
            if charges:
                return self._charged(charges[0], previous[-1], request)
            epsilon, if_broken = self._of_study(request, 1), self._of_study(request, 1, if_broken=True)
            withheld = bool(stand_down) or epsilon.exceeds(request.max_epsilon)
            withheld = withheld or if_broken.exceeds(request.max_epsilon_if_broken)
            last = previous[-1] if previous else None
            if not withheld:
                cohort, charged = self._admit(request)
                last = self._append("reserve", request, cohort)
            elif last is None or facts(last) != facts_of(request):  # else: the same refusal again
                last = self._append("withhold", request, self._nobody())
            assert last is not None
        self._update_head()
        if withheld:
            return Reservation(
                "withheld", epsilon, stand_down or withheld_sentence(request, epsilon, if_broken), last.digest
            )
        sentence = f"round {request.round} is charged; train now"
        return Reservation("reserved", epsilon, sentence, last.digest, charged)

    def release(self, request: ReleaseRequest, artefact: bytes) -> Path:
        """Store what is released, durably, then mark the round released; return the stored file.

        Raises
        ------
        PrivacyRefusal
            If the round was not reserved with these inputs, or another artefact was released for it.
        """
        digest = hashlib.sha256(artefact).hexdigest()
        target = self._artefacts / digest
        with self._transaction():
            self._refuse_if_bad()
            rows = [row for row in ledger_chain.read_rows(self._database) if is_about(row, request)]
            charges = [row for row in rows if row.kind == "reserve"]
            if not charges:
                raise PrivacyRefusal(f"{self._where(request)} was never reserved; reserve it before training")
            self._refuse_if_different(charges[0], request)
            released = [row for row in rows if row.kind == "release"]
            if released and released[0].artefact != digest:
                raise PrivacyRefusal(
                    f"{self._where(request)} was released as another artefact ({released[0].artefact[:12]}…, this one"
                    f" is {digest[:12]}…); two releases of one round are never made, restore the first from"
                    f" {self._artefacts}"
                )
            self._artefacts.mkdir(mode=0o700, exist_ok=True)
            if not holds(target, digest):
                write_bytes(target, artefact)
            if not released:
                self._append("release", request, charges[0].cohort, digest)
        self._update_head()
        return target

    def withdraw(self, name: str) -> list[tuple[str, int]]:
        """Keep for ever that a person took the consent back: from now on the person contributes nothing, silently.

        Releases that were made stay made and charged. A round that was charged and not yet released is trained without
        the person. Done again it changes nothing.

        Returns
        -------
        list of (str, int)
            What stays spent: digest of the study, and number of its rounds that the person was charged for.

        Raises
        ------
        FedcallError
            If the ledger knows several people by this name.
        PrivacyRefusal
            If the ledger is not as it was written.
        """
        with self._transaction():
            self._refuse_if_bad()
            registry = read_registry(self._database)
            pseudonym = self._keys.pseudonym(name)
            people = registry.named(pseudonym) or [registry.person(pseudonym)]
            if len(people) > 1:
                raise FedcallError(
                    f"{self.path}: {len(people)} people were listed as '{name}'; give the name of the column 'person'"
                )
            if people[0] not in registry.withdrawn:
                registry.add("withdrawn", people[0], "")
                registry.store(self._database)
                self._append("withdraw", None, self._nobody())
            histories = read_histories(self._database, registry)
            charges = histories.standing(people[0]).charges
        self._update_head()
        spent: Counter[str] = Counter()
        for study, _, count in charges:
            spent[study] += count
        return list(spent.items())

    def refuse_same_data(self, members: Sequence[Member]) -> None:
        """Refuse data that the ledger knows as another person's, before anything is charged; nothing is written.

        Raises
        ------
        PrivacyRefusal
            Names the row of the sheet and what to do.
        """
        enter(read_registry(self._database), members, self._keys, self.path)

    def _of_study(self, request: ReleaseRequest, more: int, if_broken: bool = False) -> Epsilon:
        """Return the epsilon of this study's rounds of this kind at this site, and `more` of them: a public number."""
        event = request.event.to_json()
        rounds = {
            row.round
            for row in ledger_chain.read_rows(self._database)
            if (row.kind, row.study, row.site, row.event) == ("reserve", request.study, request.site, event)
        }
        seen = request.event.alone() if if_broken else request.event
        return compose([(seen, len(rounds) + more)], request.delta)

    def _admit(self, request: ReleaseRequest) -> tuple[str, frozenset[str]]:
        """Decide who is charged; return the digest of the list, and the names of the patients to train on."""
        members = request.members
        registry = read_registry(self._database)
        people = np.array(enter(registry, members, self._keys, self.path), np.int64)
        histories = read_histories(self._database, registry, request.event.shares is not None)
        histories.agree(people, request.study, request.limits)
        allowed = may_be_charged(histories, people, request.study, request.event)
        allowed &= ~np.isin(people, list(registry.withdrawn))
        for person, member in zip(people[allowed].tolist(), np.array(members, object)[allowed], strict=True):
            if member.is_private and person not in registry.private:
                registry.add("private", person, "")
        registry.store(self._database)
        charged, exhausted = people[allowed], people[~allowed]
        cohort = sealed(charged, exhausted, request.limit, registry, request.cap_if_broken).to_json()
        names = frozenset(member.patient for member, taken in zip(members, allowed, strict=True) if taken)
        return self._keep(cohort), names

    def _charged(self, charge: LedgerRow, last: LedgerRow, request: ReleaseRequest) -> Reservation:
        self._refuse_if_different(charge, request)
        epsilon, names = self._of_study(request, 0), self._names_charged(charge, request)
        if last.kind == "reserve":
            sentence = "already charged and not yet released; train again at no cost"
        elif (stored := self._artefact(last)) is not None:
            sentence = "already released; the stored artefact is returned"
            return Reservation("released", epsilon, sentence, charge.digest, names, stored)
        else:
            sentence = "already released, but its artefact is gone: only the same bytes can be released"
        return Reservation("reserved", epsilon, sentence, charge.digest, names)

    def _names_charged(self, charge: LedgerRow, request: ReleaseRequest) -> frozenset[str]:
        cohort, registry = self._cohort(charge), read_registry(self._database)
        if cohort.pseudonyms is not None:  # an older fedcall charged everybody
            return frozenset(member.patient for member in request.members)
        charged = set(cohort.charged.tolist()) - registry.withdrawn
        return frozenset(
            member.patient
            for member in request.members
            if registry.people[self._keys.pseudonym(member.person)] in charged
        )

    def _missing_people(self, charge: LedgerRow, request: ReleaseRequest) -> set[str] | None:
        """Return who of the round as it was charged is not in the request; None if somebody else is."""
        cohort = self._cohort(charge)
        people = {self._keys.pseudonym(member.person) for member in request.members}
        if cohort.pseudonyms is not None:
            names, everybody = (
                {self._keys.pseudonym(member.patient) for member in request.members},
                set(cohort.pseudonyms),
            )
            given = people if people <= everybody else names
        else:
            pseudonyms = list(read_registry(self._database).people)
            given, everybody = people, {pseudonyms[number] for number in (*cohort.charged, *cohort.exhausted)}
        return everybody - given if given <= everybody else None

    def _are_withdrawn(self, pseudonyms: set[str]) -> bool:
        registry = read_registry(self._database)
        people = [registry.named(one) for one in pseudonyms]
        return all(named and set(named) <= registry.withdrawn for named in people)

    def _cohort(self, row: LedgerRow) -> Cohort:
        return Cohort.from_json(read_documents(self._database)[row.cohort])

    def _nobody(self) -> str:
        nobody = np.empty(0, np.int64)
        return self._keep(sealed(nobody, nobody, None, read_registry(self._database)).to_json())

    def _keep(self, document: str) -> str:
        digest = ledger_chain.cohort_digest(document)
        self._database.execute("INSERT OR IGNORE INTO memberships VALUES (?, ?)", (digest, document))
        return digest

    def _append(self, kind: EntryKind, request: ReleaseRequest | None, cohort: str, artefact: str = "") -> LedgerRow:
        assert self._seal_key is not None
        count, previous = self._database.execute("SELECT count(*) FROM rows").fetchone()[0], self.head
        agreed = dict(zip(FACTS, facts_of(request) if request else [""] * len(FACTS), strict=True))
        about = (request.study, request.site, request.round) if request else ("", "", 0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        draft = LedgerRow(
            number=count + 1, kind=kind, study=about[0], site=about[1], round=about[2], **agreed,
            cohort=cohort, artefact=artefact, time=now, previous=previous, digest="", seal="",
        )  # fmt: skip
        values = {name: getattr(draft, name) for name in ledger_chain.COLUMNS}
        values["digest"] = draft.content_digest
        values["seal"] = ledger_chain.seal_of(self._seal_key, values["digest"])
        row = LedgerRow(**values)
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

    def _refuse_if_bad(self) -> None:
        fault = ledger_chain.find_fault(self._database, self._head, self._seal_key)
        if fault:
            raise PrivacyRefusal(
                f"{self.path}: {fault.sentence}; nothing is trained on a ledger that cannot be trusted,"
                " restore its newest backup"
            )
        self._write_head()  # a crash after the last commit may have left it one row behind

    def _refuse_if_different(self, charged: LedgerRow, request: ReleaseRequest) -> None:
        pairs = zip(FACTS, facts(charged), facts_of(request), strict=True)
        different = [name for name, old, new in pairs if old != new]
        missing = self._missing_people(charged, request)
        if missing is None or (missing and not self._are_withdrawn(missing)):
            different.append("cohort")
        elif missing and "inputs" in different:
            different.remove("inputs")  # they cannot be the same, without those who withdrew
        if different:
            raise PrivacyRefusal(
                f"{self._where(request)} was charged for other inputs (different: {', '.join(different)}); training"
                " again would be a second release of the same round, restore the inputs or go on with the next round"
            )

    def _where(self, request: ReleaseRequest) -> str:
        return f"{self.path}: round {request.round} of site '{request.site}' in study {request.study[:12]}…"
