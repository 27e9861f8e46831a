"""The aggregator's side of PySyft: leaves each round as a job of data at every datasite, and reads what came of it.

An answer is read only once it is whole: a claim that its site signed, and the update that the claim names. Until then
it counts as not there; PySyft's folders are synchronised file by file.
"""

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedcall.documents import Document, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.admission import MAX_CLAIM_BYTES
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.aggregator.told_once import ToldOnce
from fedcall.federation.drop_folder import NotThere
from fedcall.federation.flower.messages import Request
from fedcall.federation.syft_jobs import MODEL_FILE, Job, JobName, SyftBox
from fedcall.study.claims import Claim
from fedcall.study.judgement import Judgement
from fedcall.study.terms import Study
from fedcall.weights import content_digest

_LOOK_SECONDS = 2.0


@dataclass
class _Datasite:
    """What is known of a site's datasite since the start."""

    site: str
    email: str
    told: ToldOnce
    left: set[str] = field(default_factory=set)
    received: set[int] = field(default_factory=set)


class Datasites:
    """All datasites of a study that take part through PySyft.

    Parameters
    ----------
    signed_study : bytes
        The signed study, which goes with every round for the data owner to read.
    box : SyftBox or None
        The coordinator's PySyft folder; None if no site takes part in this way.
    emails : Mapping[str, str]
        Email of each site's datasite.
    update_bytes : int
        The most bytes that an update has.
    """

    def __init__(
        self,
        state: StudyState,
        signed_study: bytes,
        box: SyftBox | None,
        emails: Mapping[str, str],
        update_bytes: int,
    ) -> None:
        self._state, self._signed_study, self._box = state, signed_study, box
        self._datasites = [_Datasite(site, email, ToldOnce(site)) for site, email in emails.items()]
        self._update_bytes = update_bytes
        self._next_look = 0.0

    def look(self) -> list[str]:
        """Leave new rounds, read answers, leave receipts; return the sites for which there was something to do."""
        if self._box is None or time.monotonic() < self._next_look:
            return []
        busy = []
        for datasite in self._datasites:
            try:
                if self._serve(self._box, datasite):
                    busy.append(datasite.site)
            except OSError as error:  # a full disk: nothing is lost, and the next look tries again
                datasite.told.tell(f"{error.filename}: {error.strerror}")
        self._next_look = time.monotonic() + _LOOK_SECONDS
        return busy

    def _serve(self, box: SyftBox, datasite: _Datasite) -> bool:
        stirred = False
        for name, files in self._jobs_to_leave(datasite):
            stirred |= box.submit(datasite.email, name, files)
            datasite.left.add(str(name))
            if name.kind in ("round", "closing") and name.number >= self._state.final_round:
                self._state.mark_fetched(datasite.site)
        for number in self._rounds() - datasite.received:
            name = JobName(self._state.study.digest, "round", number)
            job = box.own_job(datasite.email, name) if str(name) in datasite.left else None
            if job is not None and job.status == "done":
                stirred |= self._receive(box, datasite, job, number)
        return stirred

    def _rounds(self) -> set[int]:
        """Return the rounds in which sites answer, the judging round among them if there is a judge."""
        study = self._state.study
        return set(range(1, study.rounds + 1)) | ({study.judging_round} if self._state.judge.is_wanted else set())

    def _jobs_to_leave(self, datasite: _Datasite) -> Iterator[tuple[JobName, dict[str, bytes]]]:
        state = self._state
        for number in range(1, state.study.rounds + 2):
            yield from self._round_to_leave(datasite, JobName(state.study.digest, "round", number))
        if state.log.closed is not None:  # the final round's job may lie there from before, open
            yield from self._round_to_leave(datasite, JobName(state.study.digest, "closing", state.final_round))
        name = JobName(state.study.digest, "verdict", state.study.judging_round)
        verdict = state.judge.verdict() if state.judge.is_wanted and str(name) not in datasite.left else None
        if verdict is not None:
            yield name, {"verdict.json": verdict, "admission.jsonl": state.extract(datasite.site)}

    def _round_to_leave(self, datasite: _Datasite, name: JobName) -> Iterator[tuple[JobName, dict[str, bytes]]]:
        state = self._state
        opening = None if str(name) in datasite.left else state.opening(name.number)
        if opening is not None:
            yield (
                name,
                {
                    "study.json": self._signed_study,
                    "opening.json": opening,
                    MODEL_FILE: base64.b64encode(state.model_path(name.number).read_bytes()),
                    "sentence.txt": state.stand_down(datasite.site, name.number).encode(),
                    "admission.jsonl": state.extract(datasite.site),
                },
            )

    def _receive(self, box: SyftBox, datasite: _Datasite, job: Job, number: int) -> bool:
        study = self._state.study
        try:
            claim, update = self._answer(job, study, datasite.site, number)
        except NotThere as missing:
            datasite.told.tell(str(missing))
            return False
        if claim is None:  # done without an answer: the final model, fetched
            return False
        try:
            receipt = respond(
                self._state, datasite.site, Request("upload", study.digest, number, claim, update)
            ).document
        except FedcallError as error:
            datasite.told.tell(str(error))
            return False
        name = JobName(study.digest, "receipt", number)
        files = {"receipt.json": receipt, "admission.jsonl": self._state.extract(datasite.site)}
        box.submit(datasite.email, name, files)
        datasite.received.add(number)
        return True

    def _answer(self, job: Job, study: Study, site: str, number: int) -> tuple[bytes | None, bytes]:
        """Return claim and update of a job that is done; NotThere while they are not whole."""
        if not (job.review / "outputs" / "claim.json").exists():
            return None, b""
        claim = job.output("claim.json", MAX_CLAIM_BYTES)
        kind: type[Document] = Judgement if number == study.judging_round else Claim
        try:
            document = verify(claim, kind, study.site(site).public_key)
        except FedcallError as error:
            raise NotThere(f"{job.review}: {error}") from None
        if not isinstance(document, Claim) or document.outcome != "update":
            return claim, b""
        update = job.output("update.safetensors", self._update_bytes)
        try:
            digest = content_digest(update)
        except FedcallError as error:
            raise NotThere(f"{job.review}: {error}") from None
        if digest != document.update:
            raise NotThere(f"{job.review}: the update is not the one that the claim names, or not whole yet")
        return claim, update
