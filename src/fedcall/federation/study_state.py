"""The aggregator's state on disk: the log decides, everything else is files (`study_files`) that the log names.

An update is accepted on its own when it arrives, so that a site leaves with a receipt and nobody waits for anybody; it
is compared with the round's other updates when the round closes. One line of the log closes a round: it names the
updates put out as outliers and those averaged, and opens the next. From then on the receipt of an outlier says so, and
the opening of the next round, which every site fetches, names it.

An update is stored before the log says it was accepted, a model before the log says that its round is open; openings
and receipts are signed with Ed25519, whose signatures depend on nothing but key and content, so they can be made again.
"""

import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text, read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.federation.admission import MAX_CLAIM_BYTES, Decision, History, OpenRound, judge, prepare
from fedcall.federation.admission_log import AdmissionLog, Decided, Fetched, Opened, PutOut, extract
from fedcall.federation.aggregation import (
    Contribution,
    Moments,
    NextGlobal,
    next_global,
    read_moments,
    write_moments,
)
from fedcall.federation.claims import Claim, Receipt
from fedcall.federation.messages import RoundOpening
from fedcall.federation.outliers import Screened, find_outliers
from fedcall.federation.study import Study
from fedcall.federation.study_files import StudyFiles
from fedcall.federation.study_log import BLAMELESS, StudyLog
from fedcall.federation.study_log import Decision as LoggedDecision
from fedcall.federation.update_checks import claimed_noise_std
from fedcall.files import write_bytes
from fedcall.weights import read_weights, write_weights

_KEPT_REFUSALS = 100  # refused uploads whose files are kept, for each site; the log has them all


class StudyState:
    """One study at its aggregator: opens rounds, answers uploads, closes rounds. One process may hold it."""

    def __init__(self, folder: Path, study: Study, key: Ed25519PrivateKey, initial: Path) -> None:
        """Take up the state in `folder`, or begin with round 1 from the model in `initial`.

        Raises
        ------
        FedcallError
            If the key is not the coordinator's, the model not the study's, or the folder holds another study.
        """
        self.files, self.study = StudyFiles(Path(folder)), study
        self._key = key
        if public_text(key.public_key()) != study.coordinator:
            raise FedcallError(f"the keys given are not those of the coordinator of study '{study.name}'")
        self._claim_folder()
        self.log = StudyLog(AdmissionLog(self.files.log))
        if self.log.open_round == 0:
            weights = read_weights(initial)
            if weights.digest != study.model.initial_weights:
                raise FedcallError(
                    f"{initial}: has digest {weights.digest}, the study's initial weights are"
                    f" {study.model.initial_weights}"
                )
            self._open(1, NextGlobal(weights.tensors), weights.metadata, (), ())
        self._base = read_weights(self.model_path(self.log.open_round))
        self._mend()

    @property
    def is_done(self) -> bool:
        """Whether the final model is ready."""
        return self.log.open_round > self.study.rounds

    @property
    def progress(self) -> str:
        """What the sites can do now, for the log."""
        return "the final model is ready" if self.is_done else f"round {self.log.open_round} is open"

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
        head = self.log.heads[number]
        return sign(
            RoundOpening(
                study=self.study.digest,
                round=number,
                base=opened.base,
                accepted=opened.accepted,
                outliers=outliers,
                log_head=head,
            ),
            self._key,
        )

    def stand_down(self, site: str, number: int) -> str:
        """Return why a site should not train a round, which would spend its patients' budget for nothing; or ""."""
        history = self.log.site(site)
        if number > self.study.rounds or number in history.settled:
            return ""
        if history.is_quarantined:
            return f"site '{site}' is quarantined; ask the coordinator to release it"
        if number < self.log.open_round:
            return f"round {number} is closed; {self.progress}"
        return ""

    def extract(self, site: str) -> bytes:
        """Return the log as a site may see it."""
        self.log.catch_up()
        return extract(self.log.log.lines, site)

    def waiting_for(self) -> list[str]:
        """Return the sites that the open round waits for."""
        if self.is_done:
            return []
        return [
            site.name
            for site in self.study.sites
            if self.log.open_round not in self.log.site(site.name).settled
            and not self.log.site(site.name).is_quarantined
        ]

    def answer(self, site: str, requested: int, claim: bytes, update: bytes) -> bytes:
        """Return the signed receipt of an upload.

        The same upload gets the same receipt, ever after; but if the update turns out an outlier when the round closes,
        its receipt says so from then on.
        """
        self.log.catch_up()
        history = self.log.site(site)
        digests = _sha256(claim), _sha256(update) if update else None
        known = history.answers.get(digests)
        if known is not None:
            return self._receipt(known)
        number = self.log.open_round
        shapes = {name: tensor.shape for name, tensor in self._base.tensors.items()}
        names = self.study.model.trainable_names(shapes)
        decision = judge(
            self.study,
            site,
            History(
                history.accepted_rounds,
                history.releases,
                history.clip_norm,
                number in history.settled,
                history.is_quarantined,
            ),
            OpenRound(number, self.log.openings[number].base, {name: shapes[name] for name in names}),
            requested,
            claim,
            update,
        )
        settles = (
            requested == number
            and number not in history.settled
            and not self.is_done
            and decision.reason != "site-quarantined"  # once released, the site may answer
        )
        entry = self._entry(site, requested, digests, decision, settles)
        self._store(entry, claim, update)
        self.log.append(entry)
        decided = history.answers[digests]
        self._store_receipt(decided)
        return self._receipt(decided)

    def prepare(self) -> None:
        """Compute ahead what answering the open round takes, so that no site waits for it."""
        if not self.is_done:
            for site in self.study.sites:
                prepare(self.study, History(releases=self.log.site(site.name).releases))

    def close_round_if_due(self) -> bool:
        """Close the open round if everybody answered, or enough did and the deadline passed; say whether it closed."""
        self.log.catch_up()
        if self.is_done or not self._is_due():
            return False
        number, terms = self.log.open_round, self.study.aggregation
        admitted = [site.name for site in self.study.sites if self._is_accepted(site.name)]
        outliers = self._outliers(number, admitted)
        put_out = {outlier.site for outlier in outliers}
        accepted = tuple(name for name in admitted if name not in put_out)
        if len(accepted) < terms.minimum_sites:
            accepted = ()  # too few to average: the model stays as it is
        made = next_global(
            self._base.tensors,
            [Contribution(name, self.files.update(number, name), self.study.site(name).patients) for name in accepted],
            terms,
            self._moments(number),
        )
        for outlier in outliers:
            self._store_outlier(number, outlier.site)
        self._open(number + 1, made, self._base.metadata, accepted, outliers)
        for outlier in outliers:
            self._store_receipt(self.log.site(outlier.site).settled[number])
        self._base = read_weights(self.model_path(number + 1))
        self.prepare()
        return True

    def mark_fetched(self, site: str) -> None:
        """Remember that a site was given the final model."""
        if site not in self.log.fetched:
            self.log.append(Fetched(site=site))

    def _claim_folder(self) -> None:
        self.files.folder.mkdir(parents=True, exist_ok=True)
        path = self.files.study
        signed = sign(self.study, self._key)
        if not path.exists():
            write_bytes(path, signed)
        elif path.read_bytes() != signed:
            raise FedcallError(f"{self.files.folder}: holds the state of another study; choose another folder")

    def _is_due(self) -> bool:
        number = self.log.open_round
        histories = [self.log.site(site.name) for site in self.study.sites]
        everybody = all(number in history.settled for history in histories)
        active = [history for history in histories if not history.is_quarantined]
        if everybody or (active and all(number in history.settled for history in active)):
            return True
        accepted = sum(self._is_accepted(site.name) for site in self.study.sites)
        late = time.time() > self.log.opened_at + 60 * self.study.aggregation.deadline_minutes
        return late and accepted >= self.study.aggregation.minimum_sites

    def _is_accepted(self, site: str) -> bool:
        settled = self.log.site(site).settled.get(self.log.open_round)
        return settled is not None and settled.entry.status == "accepted"

    def _outliers(self, number: int, admitted: list[str]) -> tuple[PutOut, ...]:
        """Compare the admitted updates of a round; the same files give the same outliers, whenever it is done."""
        terms = self.study.admission
        if terms.outlier_z is None:
            return ()
        updates = [
            Screened(
                name,
                self.files.update(number, name),
                claimed_noise_std(self.study, read_unverified(self.files.claim(number, name).read_bytes(), Claim)[0]),
            )
            for name in admitted
        ]
        found = find_outliers(updates, terms.outlier_z, terms.outlier_ratio, self.study.privacy.mechanism)
        return tuple(
            PutOut(
                site=outlier.site,
                sentence=f"round {number}: not averaged, {outlier.sentence}",
                quarantines=self.log.site(outlier.site).refusals_in_a_row + 1 >= terms.max_refusals,
            )
            for outlier in found
        )

    def _moments(self, number: int) -> Moments | None:
        digest = self.log.openings[number].moments
        return None if digest is None else read_moments(self.files.moments(number), digest)

    def _open(
        self,
        number: int,
        made: NextGlobal,
        metadata: dict[str, str],
        accepted: tuple[str, ...],
        outliers: tuple[PutOut, ...],
    ) -> None:
        path = self.model_path(number)
        write_weights(path, made.tensors, {**metadata, "study": self.study.digest, "round": str(number)})
        moments = None if made.moments is None else write_moments(self.files.moments(number), made.moments)
        self.log.append(
            Opened(
                round=number,
                base=read_weights(path).digest,
                accepted=accepted,
                outliers=outliers,
                moments=moments,
            )
        )
        write_bytes(self.files.opening(number), self.opening(number) or b"")

    def _entry(
        self, site: str, requested: int, digests: tuple[str, str | None], decision: Decision, settles: bool
    ) -> Decided:
        history = self.log.site(site)
        status = "rejected"
        sentence = decision.sentence
        if decision.reason in ("ok", "withheld"):
            status = "accepted" if decision.reason == "ok" else "withheld"
            if status == "accepted" and self.study.admission.outlier_z is not None:
                sentence += "; compared with the other sites when the round closes"
        elif decision.reason == "site-quarantined":
            status = "quarantined"
        elif decision.reason not in BLAMELESS:
            refusals = history.refusals_in_a_row + 1
            if refusals >= self.study.admission.max_refusals:
                status = "quarantined"
                sentence += f"; {refusals} refusals in a row quarantine the site until the coordinator releases it"
        return Decided.model_validate(
            {
                "site": site,
                "round": requested,
                "claim": digests[0],
                "update": digests[1],
                "document": decision.document,
                "status": status,
                "reason": decision.reason,
                "sentence": sentence,
                "epsilon": decision.epsilon,
                "accepted_rounds": history.accepted_rounds + (status == "accepted"),
                "settles": settles,
                "content": decision.content,
                "released": decision.released,
                "ledger_head": decision.ledger_head,
                "clip_norm": decision.clip_norm,
            }
        )

    def _receipt(self, decision: LoggedDecision) -> bytes:
        entry, put_out = decision.entry, decision.put_out
        receipt = Receipt(
            study=self.study.digest,
            site=entry.site,
            round=entry.round,
            claim=entry.document,
            status="quarantined" if put_out else entry.status,
            reason="outlier" if put_out else entry.reason,
            sentence=put_out.sentence if put_out else entry.sentence,
            epsilon=entry.epsilon,
            accepted_rounds=entry.accepted_rounds - (put_out is not None),
            ledger_head=entry.ledger_head,
            log_head=decision.head,
        )
        return sign(receipt, self._key)

    def _store(self, entry: Decided, claim: bytes, update: bytes) -> None:
        """Store what was sent, before the log names it; of a site that sends refused ones without end, not all."""
        if entry.status in ("accepted", "withheld"):
            if update:
                write_bytes(self.files.update(entry.round, entry.site), update)
            write_bytes(self.files.claim(entry.round, entry.site), claim)
            return
        if self.log.site(entry.site).refusals >= _KEPT_REFUSALS:
            return
        place = self.files.quarantine(LoggedDecision(entry, 0, "").identifier)
        write_bytes(place / "claim.json", claim[:MAX_CLAIM_BYTES])
        if update:
            write_bytes(place / "update.safetensors", update)

    def _store_outlier(self, number: int, site: str) -> None:
        place = self.files.quarantine(self.log.site(site).settled[number].identifier)
        write_bytes(place / "claim.json", self.files.claim(number, site).read_bytes())
        write_bytes(place / "update.safetensors", self.files.update(number, site).read_bytes())

    def _store_receipt(self, decision: LoggedDecision) -> None:
        receipt = self._receipt(decision)
        place = self.files.quarantine(decision.identifier)
        if decision.is_refused and place.exists():
            write_bytes(place / "receipt.json", receipt)
        if decision.entry.settles:
            write_bytes(self.files.receipt(decision.entry.round, decision.entry.site), receipt)

    def _mend(self) -> None:
        """Make again the files that a kill kept from following the log."""
        for number in self.log.openings:
            path = self.files.opening(number)
            if not path.exists():
                write_bytes(path, self.opening(number) or b"")
        for decision in self.log.decisions:
            if decision.put_out is not None or (
                decision.entry.settles and not self.files.receipt(decision.entry.round, decision.entry.site).exists()
            ):
                self._store_receipt(decision)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
