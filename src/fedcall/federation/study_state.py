"""The aggregator's state on disk: the log decides, everything else is files that the log names.

    study.json  admission.jsonl
    rounds/{round}/global.safetensors, opening.json       the model going into the round, and its signed digest
    rounds/{round}/accepted/{site}.safetensors, .claim.json
    rounds/{round}/receipts/{site}.json                   the answer that settled the round for the site
    quarantine/{site}-{round}-{claim}/claim.json, update.safetensors, receipt.json

An update is stored before the log says it was accepted, a model before the log says that its round is open; openings
and receipts are signed with Ed25519, whose signatures depend on nothing but key and content, so they can be made again.
"""

import hashlib
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text, sign
from fedcall.errors import FedcallError
from fedcall.federation.admission import Decision, History, OpenRound, judge
from fedcall.federation.admission_log import AdmissionLog, Decided, Fetched, Opened
from fedcall.federation.aggregation import Contribution, next_global
from fedcall.federation.claims import Receipt
from fedcall.federation.messages import RoundOpening
from fedcall.federation.study import Study
from fedcall.federation.study_log import BLAMELESS, StudyLog
from fedcall.files import write_bytes
from fedcall.weights import read_weights, write_weights


class StudyState:
    """One study at its aggregator: opens rounds, answers uploads, closes rounds. One process may hold it."""

    def __init__(self, folder: Path, study: Study, key: Ed25519PrivateKey, initial: Path) -> None:
        """Take up the state in `folder`, or begin with round 1 from the model in `initial`.

        Raises
        ------
        FedcallError
            If the key is not the coordinator's, the model not the study's, or the folder holds another study.
        """
        self.folder, self.study = Path(folder), study
        self._key = key
        if public_text(key.public_key()) != study.coordinator:
            raise FedcallError(f"the keys given are not those of the coordinator of study '{study.name}'")
        self._claim_folder()
        self.log = StudyLog(AdmissionLog(self.folder / "admission.jsonl"))
        if self.log.open_round == 0:
            weights = read_weights(initial)
            if weights.digest != study.model.initial_weights:
                raise FedcallError(
                    f"{initial}: has digest {weights.digest}, the study's initial weights are"
                    f" {study.model.initial_weights}"
                )
            self._open(1, weights.tensors, weights.metadata, ())
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
        return self.folder / "rounds" / str(number) / "global.safetensors"

    def opening(self, number: int) -> bytes | None:
        """Return the signed opening of a round, or None if it is not open yet."""
        opened = self.log.openings.get(number)
        if opened is None:
            return None
        return sign(RoundOpening(study=self.study.digest, round=number, base=opened.base), self._key)

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
        """Return the signed receipt of an upload; the same upload gets the same receipt, ever after."""
        self.log.catch_up()
        history = self.log.site(site)
        digests = _sha256(claim), _sha256(update) if update else None
        known = history.answers.get(digests)
        if known is not None:
            return self._receipt(known.entry, known.head)
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
        settles = requested == number and number not in history.settled and not self.is_done
        entry = self._entry(site, requested, digests, decision, settles)
        place = self._store(entry, claim, update)
        receipt = self._receipt(entry, self.log.append(entry).head)
        self._store_receipt(entry, receipt, place)
        return receipt

    def close_round_if_due(self) -> bool:
        """Close the open round if everybody answered, or enough did and the deadline passed; say whether it closed."""
        self.log.catch_up()
        if self.is_done or not self._is_due():
            return False
        number, terms = self.log.open_round, self.study.aggregation
        accepted = tuple(site.name for site in self.study.sites if self._is_accepted(site.name))
        tensors = self._base.tensors
        if len(accepted) >= terms.minimum_sites:
            tensors = next_global(
                tensors,
                [Contribution(name, self._accepted(number, name), self.study.site(name).patients) for name in accepted],
                terms,
            )
        else:
            accepted = ()  # too few to average: the model stays as it is
        self._open(number + 1, tensors, self._base.metadata, accepted)
        self._base = read_weights(self.model_path(number + 1))
        return True

    def mark_fetched(self, site: str) -> None:
        """Remember that a site was given the final model."""
        if site not in self.log.fetched:
            self.log.append(Fetched(site=site))

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "study.json"
        signed = sign(self.study, self._key)
        if not path.exists():
            write_bytes(path, signed)
        elif path.read_bytes() != signed:
            raise FedcallError(f"{self.folder}: holds the state of another study; choose another folder")

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
        return settled is not None and settled.status == "accepted"

    def _open(
        self, number: int, tensors: dict[str, np.ndarray], metadata: dict[str, str], accepted: tuple[str, ...]
    ) -> None:
        path = self.model_path(number)
        write_weights(path, tensors, {**metadata, "study": self.study.digest, "round": str(number)})
        self.log.append(Opened(round=number, base=read_weights(path).digest, accepted=accepted))
        write_bytes(path.with_name("opening.json"), self.opening(number) or b"")

    def _entry(
        self, site: str, requested: int, digests: tuple[str, str | None], decision: Decision, settles: bool
    ) -> Decided:
        history = self.log.site(site)
        status = "rejected"
        sentence = decision.sentence
        if decision.reason in ("ok", "withheld"):
            status = "accepted" if decision.reason == "ok" else "withheld"
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

    def _receipt(self, entry: Decided, head: str) -> bytes:
        receipt = Receipt(
            study=self.study.digest,
            site=entry.site,
            round=entry.round,
            claim=entry.document,
            status=entry.status,
            reason=entry.reason,
            sentence=entry.sentence,
            epsilon=entry.epsilon,
            accepted_rounds=entry.accepted_rounds,
            ledger_head=entry.ledger_head,
            log_head=head,
        )
        return sign(receipt, self._key)

    def _store(self, entry: Decided, claim: bytes, update: bytes) -> Path:
        """Store what was sent, before the log names it; return the folder of a refused one."""
        if entry.status in ("accepted", "withheld"):
            path = self._accepted(entry.round, entry.site)
            if update:
                write_bytes(path, update)
            write_bytes(path.with_suffix(".claim.json"), claim)
            return path.parent
        place = self.folder / "quarantine" / f"{entry.site}-{entry.round}-{entry.claim[:12]}"
        write_bytes(place / "claim.json", claim)
        if update:
            write_bytes(place / "update.safetensors", update)
        return place

    def _store_receipt(self, entry: Decided, receipt: bytes, place: Path) -> None:
        if entry.status not in ("accepted", "withheld"):
            write_bytes(place / "receipt.json", receipt)
        if entry.settles:
            write_bytes(self.folder / "rounds" / str(entry.round) / "receipts" / f"{entry.site}.json", receipt)

    def _accepted(self, number: int, site: str) -> Path:
        return self.folder / "rounds" / str(number) / "accepted" / f"{site}.safetensors"

    def _mend(self) -> None:
        """Make again the files that a kill kept from following the log."""
        for number in self.log.openings:
            path = self.model_path(number).with_name("opening.json")
            if not path.exists():
                write_bytes(path, self.opening(number) or b"")
        for decision in self.log.decisions:
            entry = decision.entry
            path = self.folder / "rounds" / str(entry.round) / "receipts" / f"{entry.site}.json"
            if entry.settles and not path.exists():
                write_bytes(path, self._receipt(entry, decision.head))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
