"""The aggregator's state on disk: the log decides, everything else is files (`state_files`) that the log names.

An update is accepted on its own when it arrives, so that a site leaves with a receipt and nobody waits for anybody; it
is compared with the round's other updates when the round closes. One line of the log closes a round: it names the
updates put out as outliers and those averaged, and opens the next. From then on the receipt of an outlier says so, and
the opening of the next round, which every site fetches, names it.

An update is stored before the log says it was accepted, a model before the log says that its round is open; openings
and receipts are signed with Ed25519, whose signatures depend on nothing but key and content, so they can be made again.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text, sign
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.admission import EarlierUploads, admit_upload, prepare
from fedcall.federation.aggregator.aggregation import NextGlobal, write_moments
from fedcall.federation.aggregator.enclave import (
    EnclaveKeys,
    SealedUploads,
    mark,
    sealed_files,
)
from fedcall.federation.aggregator.judging import Judge
from fedcall.federation.aggregator.receipts import log_entry, signed_receipt
from fedcall.federation.aggregator.round_closing import Closing, admitted_sites, close_round
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import LoggedDecision, StudyLog
from fedcall.federation.aggregator.sum_opening import SumOpening
from fedcall.federation.aggregator.update_checks import OpenRound, open_round
from fedcall.federation.aggregator.uploads import Uploads
from fedcall.files import make_private_folder, write_bytes
from fedcall.protection.ceremony import require_openfhe
from fedcall.study.admission_log import AdmissionLog, Decided, Fetched, Opened, extract
from fedcall.study.opening import RoundOpening
from fedcall.study.terms import Study
from fedcall.weights import read_weights, write_weights

REFUSALS_IN_A_ROUND = 100  # of a site; the log is for ever, and whoever sends refused uploads must not fill it
_KEPT_REFUSALS = 100  # refused uploads whose files are kept, for each site; the log has them all


class StudyState:
    """One study at its aggregator: opens rounds, answers uploads, closes rounds. One process may hold it."""

    def __init__(
        self, folder: Path, study: Study, key: Ed25519PrivateKey, initial: Path, enclave: EnclaveKeys | None = None
    ) -> None:
        """Take up the state in `folder`, or begin with round 1 from the model in `initial`.

        `enclave` are the keys of the enclave in which a sealed study is served.

        Raises
        ------
        FedcallError
            If the key is not the coordinator's, the model not the study's, the folder holds another study, or OpenFHE
            is missing where updates are encrypted.
        """
        self.study, self.enclave, self._key = study, enclave, key
        if (study.protection.mode == "sealed") != (enclave is not None):
            raise FedcallError(
                f"study '{study.name}' is {'' if enclave is None else 'not '}sealed: it is served"
                f" {'inside' if enclave is None else 'outside of'} an enclave (--enclave)"
            )
        self.uploads = (
            Uploads(StudyFiles(Path(folder)))
            if enclave is None
            else SealedUploads(sealed_files(folder, study, enclave))
        )
        self.files = self.uploads.files
        if public_text(key.public_key()) != study.coordinator:
            raise FedcallError(f"the keys given are not those of the coordinator of study '{study.name}'")
        if study.protection.encryption is not None:
            require_openfhe(study.protection.encryption)
        self._claim_folder()
        self.log = StudyLog(AdmissionLog(self.files.log, partial(mark, enclave.log_key) if enclave else None))
        if self.log.open_round == 0:
            weights = read_weights(initial)
            if weights.digest != study.model.initial_weights:
                raise FedcallError(
                    f"{initial}: has digest {weights.digest}, the study's initial weights are"
                    f" {study.model.initial_weights}"
                )
            study.model.check_weights(weights.tensors, str(initial))
            self._open(1, Closing((), (), NextGlobal(weights.tensors)), weights.metadata)
        self._base = read_weights(self.model_path(self.log.open_round))
        opened = self.log.openings[self.log.open_round].base
        if self._base.digest != opened:
            raise FedcallError(
                f"{self.model_path(self.log.open_round)}: has digest {self._base.digest}, the log says {opened};"
                " restore it from your backup"
            )
        self._earlier = self.uploads.earlier(key.private_bytes_raw(), self.log)
        self._mend()
        self.sums = SumOpening(study, self.files, self.log, key)
        self.judge = Judge(study, self.files, self.log, key)

    @property
    def is_done(self) -> bool:
        """Whether the final model is ready."""
        return self.log.is_over(self.study.rounds)

    @property
    def progress(self) -> str:
        """What the sites can do now, for the log."""
        if self.log.concluded is not None:
            return "the final model is judged"
        if self.is_done:
            return "the final model is ready"
        return f"round {self.log.open_round} is {'closed, its sum is ordered' if self.sums.is_ordered else 'open'}"

    @property
    def final_round(self) -> int:
        """Number under which the final model is, or will be."""
        return self.log.final_round(self.study.rounds)

    @property
    def max_update_bytes(self) -> int:
        """Size that no update file of this study passes."""
        return self._open_round(self.log.open_round).max_update_bytes

    @property
    def all_fetched(self) -> bool:
        """Whether every site was given the final model."""
        return self.log.fetched >= {site.name for site in self.study.sites}

    def model_path(self, number: int) -> Path:
        """Return where the model going into a round lies."""
        return self.files.model(number)

    def opening(self, number: int) -> bytes | None:
        """Return the signed opening of a round, or None if it is not open yet."""
        opened = self.log.openings.get(number)
        if opened is None:
            return None
        outliers = tuple(put_out.site for put_out in opened.outliers)
        closed = self.log.closed if number == self.final_round else None
        head = self.log.closed_head if closed else self.log.heads[number]
        return sign(
            RoundOpening(
                study=self.study.digest,
                round=number,
                base=opened.base,
                accepted=opened.accepted,
                outliers=outliers,
                void=opened.void,
                log_head=head,
                closed=closed.reason if closed else None,
                opened=self.log.opened_sum(number - 1),
            ),
            self._key,
        )

    def stand_down(self, site: str, number: int) -> str:
        """Return why a site should not train a round, which would spend its patients' budget for nothing; or ""."""
        history = self.log.site(site)
        if number >= self.final_round or number in history.settled:
            return ""
        if history.is_quarantined:
            return f"site '{site}' is quarantined; ask the coordinator to release it"
        if number < self.log.open_round or self.sums.is_ordered:
            return f"round {number} is closed; {self.progress}"
        return ""

    def extract(self, site: str) -> bytes:
        """Return the log as a site may see it."""
        self.log.catch_up()
        return extract(self.log.log.lines, site)

    def waiting_for(self) -> list[str]:
        """Return the sites that the open round waits for, or, once its sum is ordered, the helpers."""
        if self.is_done:
            return []
        if self.sums.is_ordered:
            return [f"helper {name}" for name in self.sums.waiting_for()]
        return [
            site.name
            for site in self.study.sites
            if self.log.open_round not in self.log.site(site.name).settled
            and not self.log.site(site.name).is_quarantined
        ]

    def answer(self, site: str, requested: int, claim: bytes, update: bytes, sealed: bytes = b"") -> bytes:
        """Return the signed receipt of an upload; `sealed` is what came, where claim and update came sealed.

        The same upload gets the same receipt until its round closes. From then on the receipt of an outlier says so,
        and that of an update in a sum holds how the sum was opened.

        Raises
        ------
        FedcallError
            If very many uploads of the site were refused in this round: nothing more is decided.
        """
        self.log.catch_up()
        history = self.log.site(site)
        digests = _sha256(claim), _sha256(update) if update else None
        known = history.answers.get(digests)
        if known is not None:
            return signed_receipt(self.study, self.log, known, self._key)
        if history.refused_in_round >= REFUSALS_IN_A_ROUND:
            raise FedcallError(
                f"{history.refused_in_round} uploads of site '{site}' were refused in this round; no other is looked"
                " at, or logged, until the next one"
            )
        number = self.log.open_round
        is_closed = self.log.closed is not None  # nothing is open then, and what comes is late
        decision = admit_upload(
            self.study,
            site,
            EarlierUploads(
                history.accepted_rounds,
                history.releases,
                history.clip_norm,
                number in history.settled,
                history.is_quarantined,
            ),
            self._open_round(number + is_closed),
            requested,
            claim,
            update,
        )
        decision = replace(decision, sentence=self.uploads.told(decision.reason, decision.sentence))
        settles = (
            requested == number
            and number not in history.settled
            and not self.is_done
            and decision.reason != "site-quarantined"  # once released, the site may answer
            and not self.sums.is_ordered
        )
        entry = log_entry(self.study, history, site, requested, digests, decision, settles)
        self._store(entry, claim, update, sealed)
        self.log.append(entry)
        decided = history.answers[digests]
        self._store_receipt(decided)
        return signed_receipt(self.study, self.log, decided, self._key)

    def prepare(self) -> None:
        """Compute ahead what answering the open round takes, so that no site waits for it."""
        if not self.is_done:
            for site in self.study.sites:
                prepare(self.study, EarlierUploads(releases=self.log.site(site.name).releases))

    def close_round_if_due(self) -> bool:
        """Close the open round if everybody answered, or enough did and the deadline passed; say whether it closed.

        After the last round the judgements of the final model are closed in the same way.
        """
        self.log.catch_up()
        if self.enclave is not None and self.enclave.is_rolled_back:
            return False
        if self.is_done:
            return self.judge.conclude_if_due()
        closing = self._closing()
        if closing is None:
            return False
        number = self.log.open_round
        for outlier in closing.outliers:
            place = self.files.quarantine(self.log.site(outlier.site).settled[number].identifier)
            self.uploads.set_outlier_aside(place, number, outlier.site)
        self._open(number + 1, closing, self._base.metadata)
        for outlier in closing.outliers:
            self._store_receipt(self.log.site(outlier.site).settled[number])
        self._base = read_weights(self.model_path(number + 1))
        self.prepare()
        return True

    def mark_fetched(self, site: str) -> None:
        """Remember that a site was given the final model."""
        if site not in self.log.fetched:
            self.log.append(Fetched(site=site))

    def _claim_folder(self) -> None:
        make_private_folder(self.files.folder)
        path = self.files.study
        signed = sign(self.study, self._key)
        if not path.exists():
            write_bytes(path, signed)
        elif path.read_bytes() != signed:
            raise FedcallError(f"{self.files.folder}: holds the state of another study; choose another folder")

    def _open_round(self, number: int) -> OpenRound:
        base = self.log.openings[self.log.open_round].base
        return open_round(self.study, number, base, self._base.tensors, self.sums.is_ordered)

    def _is_due(self) -> bool:
        number = self.log.open_round
        histories = [self.log.site(site.name) for site in self.study.sites]
        everybody = all(number in history.settled for history in histories)
        active = [history for history in histories if not history.is_quarantined]
        if everybody or (active and all(number in history.settled for history in active)):
            return True
        accepted = len(admitted_sites(self.study, self.log))
        late = time.time() > self.log.opened_at + 60 * self.study.aggregation.deadline_minutes
        return late and accepted >= self.study.least_sites

    def _closing(self) -> Closing | None:
        """Return how the open round ends, or None while it does not; orders its sum when it takes no more updates."""
        base = self._base.tensors
        if not self.study.sends_sums:
            return self._close(base) if self._is_due() else None
        if not self.sums.is_ordered:
            if not self._is_due():
                return None
            values = sum(base[name].size for name in self.study.model.trainable_names(base))
            if not self.sums.order(values):
                return self.sums.too_few(base)
        return self.sums.close(base)

    def _close(self, base: Mapping[str, np.ndarray]) -> Closing:
        number = self.log.open_round
        admitted = [self.log.site(name).settled[number].entry for name in admitted_sites(self.study, self.log)]
        with self.uploads.opened(admitted):
            closing = close_round(self.study, self.files, self.log, base, self._earlier)
        before = f"round {number}: not averaged, "
        told = [self.uploads.told("outlier", one.sentence, before) for one in closing.outliers]
        outliers = zip(closing.outliers, told, strict=True)
        return replace(closing, outliers=tuple(one.model_copy(update={"sentence": text}) for one, text in outliers))

    def _open(self, number: int, closing: Closing, metadata: dict[str, str]) -> None:
        path, made = self.model_path(number), closing.made
        write_weights(path, made.tensors, {**metadata, "study": self.study.digest, "round": str(number)})
        moments = None if made.moments is None else write_moments(self.files.moments(number), made.moments)
        self.log.append(
            Opened(
                round=number,
                base=read_weights(path).digest,
                accepted=closing.accepted,
                outliers=closing.outliers,
                moments=moments,
                masks=closing.masks,
                void=closing.void,
            )
        )
        write_bytes(self.files.opening(number), self.opening(number) or b"")

    def _store(self, entry: Decided, claim: bytes, update: bytes, sealed: bytes) -> None:
        """Store what was sent, before the log names it; of a site that sends refused ones without end, not all."""
        if entry.status in ("accepted", "withheld"):
            self.uploads.keep(entry, claim, update, sealed)
            return
        if self.log.site(entry.site).refusals >= _KEPT_REFUSALS:
            return
        place = self.files.quarantine(LoggedDecision(entry, 0, "").identifier)
        self.uploads.set_aside(place, claim, update, sealed)

    def _store_receipt(self, decision: LoggedDecision) -> None:
        receipt = signed_receipt(self.study, self.log, decision, self._key)
        place = self.files.quarantine(decision.identifier)
        if decision.is_refused and place.exists():
            write_bytes(place / "receipt.json", receipt)
        if decision.entry.settles:
            write_bytes(self.files.receipt(decision.entry.round, decision.entry.site), receipt)

    def _mend(self) -> None:
        """Make again the files that a kill kept from following the log."""
        for number in self.log.openings:
            path = self.files.opening(number)
            if not path.exists() or (self.log.closed is not None and number == self.final_round):
                write_bytes(path, self.opening(number) or b"")
        for decision in self.log.decisions:
            if decision.put_out is not None or (
                decision.entry.settles and not self.files.receipt(decision.entry.round, decision.entry.site).exists()
            ):
                self._store_receipt(decision)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
