"""A hospital's side of PySyft: approves the coordinator's jobs of data, and exchanges through them.

What counts is not PySyft's approval, which holds for whatever lies under a job's name, but our own record of the
content that was approved (`keys/syft-approved/`), beside the hospital's keys and outside everything that is
synchronised.
"""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.drop_folder import NotThere
from fedcall.federation.flower.messages import Answer, Request
from fedcall.federation.site.waiting import wait_for
from fedcall.federation.syft_jobs import MODEL_FILE, Job, JobName, SyftBox, parse_name
from fedcall.files import write_bytes
from fedcall.shown import shown
from fedcall.study.admission_log import read_lines
from fedcall.study.claims import Receipt
from fedcall.study.judgement import Verdict
from fedcall.study.opening import RoundOpening
from fedcall.study.terms import Study
from fedcall.weights import content_digest


@dataclass(frozen=True)
class Datasite:
    """A site's datasite.

    Attributes
    ----------
    keys : Path
        Folder of the site's keys.
    approves_all : bool
        Whether every job of the study is approved as it comes; in a rehearsal, or by who agreed to the whole study.
    """

    box: SyftBox
    study: Study
    keys: Path
    approves_all: bool = False


def study_jobs(datasite: Datasite) -> list[tuple[JobName, Job]]:
    """Return the jobs of the study in the datasite's inbox, in the order of their rounds; they are not verified."""
    found = [(parse_name(job.name, datasite.study), job) for job in datasite.box.jobs_at(datasite.box.email)]
    named = [(name, job) for name, job in found if name is not None and job.status != "rejected"]
    return sorted(named, key=lambda pair: (pair[0].number, pair[0].kind == "verdict"))


def read_round(datasite: Datasite, name: JobName, job: Job) -> tuple[RoundOpening, Answer]:
    """Return the signed opening and the model of a round's job.

    Raises
    ------
    NotThere
        If they are not there as the coordinator signed them, or not whole yet.
    """
    study = datasite.study
    assert study.coordinator is not None  # read_study refuses an incomplete study
    signed, encoded = job.file("opening.json"), job.file(MODEL_FILE)
    try:
        model = base64.b64decode(encoded, validate=True)
        opening = verify(signed, RoundOpening, study.coordinator)
        digest = content_digest(model)
    except (FedcallError, ValueError) as error:
        raise NotThere(f"{job.submission}: {error}") from None
    if (opening.study, opening.round) != (study.digest, name.number):
        raise NotThere(f"{job.submission}: opens round {opening.round} of study {opening.study}")
    if digest != opening.base:
        raise NotThere(f"{job.submission}: the model is {digest}, the coordinator signed {opening.base}")
    sentence = job.file("sentence.txt").decode(errors="replace")
    return opening, Answer("model", signed, model, shown(sentence, 2000))


def is_approved(datasite: Datasite, digest: str) -> bool:
    """Say whether the content of this digest was approved here."""
    return (datasite.keys / "syft-approved" / digest).exists()


def approve(datasite: Datasite, job: Job, digest: str) -> None:
    """Approve a job with the digest of its content as the reason, and keep that digest."""
    folder = datasite.keys / "syft-approved"
    folder.mkdir(mode=0o700, exist_ok=True)
    write_bytes(folder / digest, job.name.encode())
    datasite.box.approve(job, f"fedcall: content {digest}")


def approved_round(datasite: Datasite, number: int) -> tuple[Job, Answer]:
    """Return the approved job of a round, and its model.

    Raises
    ------
    NotThere
        If none is there, or its content is another than was approved.
    """
    wanted = [(name, job) for name, job in study_jobs(datasite) if (name.kind, name.number) == ("round", number)]
    return _first_approved(datasite, wanted, f"no job for round {number} in {datasite.box.folder} yet")


def final_or_round(datasite: Datasite, number: int) -> Answer:
    """Return the model of a round; of a study that was closed early, from its end on, the final one.

    Raises
    ------
    NotThere
        If neither is there, or the content is another than was approved.
    """
    ends = [(name, job) for name, job in study_jobs(datasite) if name.kind == "closing" and name.number <= number]
    try:
        return _first_approved(datasite, ends, "not closed")[1]
    except NotThere:
        return approved_round(datasite, number)[1]


def _first_approved(datasite: Datasite, jobs: list[tuple[JobName, Job]], why: str) -> tuple[Job, Answer]:
    for name, job in jobs:
        try:
            _, answer = read_round(datasite, name, job)
            digest = job.digest()
        except NotThere as missing:
            why = str(missing)
            continue
        if datasite.approves_all and not is_approved(datasite, digest):
            approve(datasite, job, digest)
        if is_approved(datasite, digest):
            return job, answer
        why = f"job {job.name} is not approved as it is now; run 'fedcall syft answer'"
    raise NotThere(why)


def hand_in(datasite: Datasite, job: Job, claim: bytes, update: bytes) -> None:
    """Lay claim and update into the outputs of a round's job, and mark it as done; the claim last."""
    datasite.box.finish(job, ({"update.safetensors": update} if update else {}) | {"claim.json": claim})


def exchange_through_jobs(datasite: Datasite, request: Request, deadline: float) -> Answer:
    """Take the answer to a request from the coordinator's jobs, once it is there.

    Returns
    -------
    Answer
        A final answer, or "wait" when `deadline` (of `time.monotonic`) passed. Everything in it is for the caller to
        verify: whoever writes into the folder could have put it there.
    """
    return wait_for(lambda: _answer(datasite, request), deadline)


def _answer(datasite: Datasite, request: Request) -> Answer:
    if request.kind == "fetch":
        return final_or_round(datasite, request.round)
    coordinator = str(datasite.study.coordinator)
    if request.kind == "log":
        whole = _files(datasite, "admission.jsonl", lambda content: list(read_lines(content, "the log")))
        return Answer("log", document=max(whole, key=len))
    if request.kind == "verdict":
        signed = _files(datasite, "verdict.json", lambda content: verify(content, Verdict, coordinator), "verdict")
        return Answer("verdict", document=next(signed))
    job, _ = approved_round(datasite, request.round)
    hand_in(datasite, job, request.claim, request.update)
    signed = _files(
        datasite, "receipt.json", lambda content: verify(content, Receipt, coordinator), "receipt", request.round
    )
    return Answer("receipt", document=next(signed))


def _files(
    datasite: Datasite, file: str, check: Callable[[bytes], object], kind: str = "", number: int = 0
) -> Iterator[bytes]:
    """Yield a file of each job that has it and in which `check` finds no fault; NotThere if there is none."""
    why = NotThere(f"no {file} of the coordinator in {datasite.box.folder} yet")
    found = False
    for name, job in study_jobs(datasite):
        if kind in ("", name.kind) and number in (0, name.number):
            try:
                content = job.file(file)
                check(content)
            except NotThere as missing:
                why = missing
                continue
            except FedcallError as error:
                why = NotThere(f"{job.submission}: {file}: {error}")
                continue
            if name.kind not in ("round", "closing") and job.status != "done":  # nothing of the site's comes of it
                datasite.box.finish(job, {})
            found = True
            yield content
    if not found:
        raise why
