"""A site's exchanges with the aggregator: fetch a round's model, upload the answer to it; at the end judge it.

Both may be repeated at any time and end the same: a model is named by a signed digest, an upload by its claim.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fedcall.documents import read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.federation.flower.fleet import NodeRefused, Unreachable, exchange
from fedcall.federation.flower.messages import Answer, Request
from fedcall.federation.site.datasite import Datasite, exchange_through_jobs
from fedcall.federation.site.drop import Drop, exchange_through_drop
from fedcall.federation.site.handover import Handover, exchange_through
from fedcall.federation.site.sealing import SealedUpload
from fedcall.files import atomic_path, write_bytes
from fedcall.keys import read_node_key, read_signing_key
from fedcall.shown import shown
from fedcall.study.admission_log import read_lines
from fedcall.study.claims import Claim, Receipt
from fedcall.study.judgement import JudgedSite, Judgement, Verdict
from fedcall.study.opened_sums import verify_sum
from fedcall.study.opening import RoundOpening
from fedcall.study.registered_keys import require_registered
from fedcall.study.terms import Study
from fedcall.weights import STAND_DOWN, read_weights, weights_bytes

log = logging.getLogger("fedcall.exchange")

DEADLINE_SECONDS = 600.0
_REFUSED_SECONDS = 100.0  # a killed client of the same key is taken for online for up to 60 s
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_VISIT_SECONDS = 60.0  # of waiting for a round to open, before leaving and coming again


@dataclass(frozen=True)
class Place:
    """Where the aggregator is to be found right now."""

    address: str
    ca: Path


Way = Place | Handover | Drop | Datasite


@dataclass(frozen=True)
class Visitor:
    """A site on its way to the aggregator.

    Attributes
    ----------
    locate : callable
        Asked before every attempt; may start a rehearsal's aggregator.
    deadline_seconds : float
        Time after which to give up while no aggregator is reached, or it has no receipt to give.
    wait_seconds : float
        Time to wait, at an aggregator that answers, for a round to open: other hospitals may take days.
    """

    study: Study
    site: str
    keys: Path
    locate: Callable[[], Way]
    deadline_seconds: float = DEADLINE_SECONDS
    wait_seconds: float = 0.0


def fetch_global(visitor: Visitor, number: int, output: Path, closing: Path | None = None) -> RoundOpening:
    """Fetch the global model going into a round (`rounds + 1`: the final model), and write it once it is verified.

    Returns the coordinator's signed opening: it names the sites whose updates made the model, and the outliers. In a
    study that opens sums alone, the sum that made the model was signed by every helper. A model that this site must not
    train on (the round is closed, or the site quarantined) is marked so in its metadata.

    Where the coordinator closed the study before its last round, the opening that says so is kept in `closing`. Who
    asked without knowing is told once, by an error; the model is written when the file was there before.

    Raises
    ------
    FedcallError
        If the round is not open before the deadline, the model is not the one the coordinator signed, or it was made
        without a sum that every helper signed.
    """
    study = visitor.study
    if not 1 <= number <= study.rounds + 1:
        raise FedcallError(
            f"--round {number}: study '{study.name}' has rounds 1 to {study.rounds};"
            f" {study.rounds + 1} fetches the final model"
        )
    answer = _visit(visitor, Request("fetch", study.digest, number), visitor.wait_seconds)
    if answer.kind != "model":
        raise _not_yet(visitor.wait_seconds or visitor.deadline_seconds, answer)
    opening = verify(answer.document, RoundOpening, _coordinator(study))
    if opening.closed is not None and opening.study == study.digest and opening.round <= number:
        _learn_of_closing(study, opening, answer.document, closing)
    if (opening.study, opening.round) != (study.digest, number):
        raise FedcallError(f"the aggregator sent the opening of round {opening.round} of study {opening.study}")
    if number == 1 and opening.base != study.model.initial_weights:
        raise FedcallError(
            f"the aggregator's first model is {opening.base}, the study's is {study.model.initial_weights}"
        )
    if study.sends_sums:
        verify_sum(study, number - 1, opening.opened, opening.accepted)
    if opening.void:
        log.warning("%s; nothing of it is in the model, and it stays charged", opening.void)
    with atomic_path(output) as temporary:
        temporary.write_bytes(answer.model)
        model = read_weights(temporary)
        if model.digest != opening.base:
            raise FedcallError(
                f"the model of round {number} has digest {model.digest}, the coordinator signed {opening.base}"
            )
        if answer.sentence:  # a site can only be told to spend less
            log.warning("%s; this round will be withheld", answer.sentence)
            temporary.write_bytes(weights_bytes(model.tensors, {**model.metadata, STAND_DOWN: answer.sentence}))
    return opening


def _learn_of_closing(study: Study, opening: RoundOpening, signed: bytes, closing: Path | None) -> None:
    if closing is not None:
        if closing.is_file() and closing.read_bytes() == signed:
            return
        write_bytes(closing, signed)
    raise FedcallError(
        f"the coordinator closed study '{study.name}' after round {opening.round - 1}"
        f" ({shown(opening.closed, 300)}); run the workflow again: it makes the final model and the reports"
    )


def upload_update(visitor: Visitor, number: int, update: Path, claim: Path, output: Path) -> Receipt:
    """Upload a claim and its update (none when withheld); write and return the signed receipt.

    Raises
    ------
    FedcallError
        If claim and update do not belong together or to this site and round, or no receipt came before the deadline.
    """
    study = visitor.study
    signed, document = _read_claim(claim)
    if (document.study, document.site, document.round) != (study.digest, visitor.site, number):
        raise FedcallError(
            f"{claim}: is for round {document.round} of site '{document.site}' in study {document.study},"
            f" not for round {number} of site '{visitor.site}' in study {study.digest}"
        )
    weights = read_weights(update)
    if document.outcome == "update" and weights.digest != document.update:
        raise FedcallError(f"{update}: has digest {weights.digest}, {claim} says {document.update}; train again")
    if document.outcome == "withheld" and weights.tensors:
        raise FedcallError(f"{update}: holds tensors, but {claim} says that the update is withheld")
    content = Path(update).read_bytes() if document.outcome == "update" else b""
    return _receipt(visitor, number, (signed, content), document.digest, "claim", output)


def upload_judgement(visitor: Visitor, judgement: Path, output: Path) -> Receipt:
    """Upload a site's judgement of the final model; write and return the signed receipt.

    Raises
    ------
    FedcallError
        If the judgement is not this site's for this study, or no receipt came before the deadline.
    """
    study = visitor.study
    signed, document = _read_judgement(judgement)
    if (document.study, document.site) != (study.digest, visitor.site):
        raise FedcallError(
            f"{judgement}: is of site '{document.site}' in study {document.study}, not of '{visitor.site}' in"
            f" {study.digest}"
        )
    return _receipt(visitor, study.judging_round, (signed, b""), document.digest, "judgement", output)


def fetch_verdict(visitor: Visitor, judgement: Path | None, output: Path) -> Verdict:
    """Fetch the signed list of all judgements, once they are closed; write it once it is verified.

    Raises
    ------
    FedcallError
        If the judgements are not closed before the deadline, the list names a site or a number of people that the
        study does not declare, or it says something else of this site than `judgement` does.
    """
    study = visitor.study
    answer = _visit(visitor, Request("verdict", study.digest, study.judging_round), visitor.wait_seconds)
    if answer.kind != "verdict":
        raise _not_yet(visitor.wait_seconds or visitor.deadline_seconds, answer)
    verdict = verify(answer.document, Verdict, _coordinator(study))
    declared = {site.name: site.holdout for site in study.judging_sites}
    names = [site.site for site in verdict.sites]
    if (
        (verdict.study, verdict.initial) != (study.digest, study.model.initial_weights)
        or len(set(names)) != len(names)
        or any(declared.get(site.site) != site.people for site in verdict.sites)
    ):
        raise FedcallError("the aggregator sent a verdict that does not fit the study; ask the coordinator")
    own = None if judgement is None else _read_judgement(judgement)[1]
    if own is not None and any(_contradicts(site, own) for site in verdict.sites):
        raise FedcallError(
            f"the verdict says something else of site '{own.site}' than {judgement}; ask the coordinator"
        )
    write_bytes(output, answer.document)
    return verdict


def fetch_log(visitor: Visitor, output: Path) -> int:
    """Fetch the admission log as this site may see it; write it once its chain is verified; return its lines.

    Raises
    ------
    FedcallError
        If a line was changed, left out or put in, or no log came before the deadline.
    """
    answer = _visit(visitor, Request("log", visitor.study.digest, 1))
    if answer.kind != "log":
        raise _not_yet(visitor.deadline_seconds, answer)
    lines = list(read_lines(answer.document, "the aggregator's log"))
    write_bytes(output, answer.document)
    return len(lines)


def _receipt(
    visitor: Visitor, number: int, content: tuple[bytes, bytes], digest: str, what: str, output: Path
) -> Receipt:
    """Upload a signed document and what goes with it; write and return the signed receipt of that document."""
    answer, sealed = _upload(visitor, number, *content)
    if answer.kind != "receipt":
        raise _not_yet(visitor.deadline_seconds, answer)
    receipt = verify(answer.document, Receipt, _coordinator(visitor.study))
    if (receipt.study, receipt.site, receipt.claim) != (visitor.study.digest, visitor.site, digest):
        raise FedcallError(f"the aggregator sent the receipt of another {what}; upload again")
    if sealed is not None:
        sealed.keep(answer.document, output)
    write_bytes(output, answer.document)
    return receipt


def _upload(visitor: Visitor, number: int, claim: bytes, update: bytes) -> tuple[Answer, SealedUpload | None]:
    """Upload claim and update; of a sealed study, after the enclave's evidence was verified, and sealed to its key."""
    study = visitor.study
    if study.protection.mode != "sealed":
        return _visit(visitor, Request("upload", study.digest, number, claim, update)), None
    place = visitor.locate()
    if isinstance(place, Datasite):
        raise FedcallError(
            f"study '{study.name}' is sealed, and jobs of PySyft carry no question: this site cannot ask for the"
            " enclave's evidence; take another way to the aggregator"
        )
    key, connects = read_signing_key(visitor.keys), isinstance(place, Place)
    sealed = SealedUpload(study, visitor.site, number, claim, update, visitor.keys, key, draws_nonce=connects)
    answer = _visit(visitor, sealed.wish, then=sealed.seal)
    if answer.kind == "evidence":  # through a folder, question and upload are two exchanges
        answer = _visit(visitor, sealed.seal(answer, None))
    return answer, sealed


def _visit(
    visitor: Visitor,
    request: Request,
    wait_seconds: float = 0.0,
    then: Callable[[Answer, bytes], Request] | None = None,
) -> Answer:
    """Exchange, and try again with growing pauses until the deadline, which starts anew while we are told to wait."""
    _node_key(visitor)
    start = time.monotonic()
    end, wait_end = start + visitor.deadline_seconds, start + wait_seconds
    pause, refused_since = _FIRST_PAUSE_SECONDS, math.inf
    told = ""
    while True:
        try:
            place = visitor.locate()
            leave = time.monotonic() + _VISIT_SECONDS if wait_seconds else end
            if isinstance(place, Handover):
                answer = exchange_through(place, request, leave)
            elif isinstance(place, Drop):
                answer = exchange_through_drop(place, request, leave)
            elif isinstance(place, Datasite):
                answer = exchange_through_jobs(place, request, leave)
            else:
                answer = exchange(place.address, place.ca, _node_key(visitor), request, leave, then)
            if answer.kind == "refused":
                raise FedcallError(f"refused by the aggregator: {answer.sentence}")
            now = time.monotonic()
            if answer.kind != "wait" or now >= wait_end:
                return answer
            start, end = now, now + visitor.deadline_seconds
            pause, refused_since = _FIRST_PAUSE_SECONDS, math.inf
            if answer.sentence != told:
                log.warning("%s; waiting", answer.sentence)
                told = answer.sentence
        except NodeRefused as refusal:
            refused_since = min(refused_since, time.monotonic())
            if time.monotonic() - refused_since > _REFUSED_SECONDS or time.monotonic() + pause > end:
                raise FedcallError(
                    f"the aggregator does not let site '{visitor.site}' in: its node key is not registered for this"
                    f" study, or another exchange of this site is still running ({refusal.reason})"
                ) from None
        except Unreachable as problem:
            if time.monotonic() + pause > end:
                minutes = (time.monotonic() - start) / 60
                raise FedcallError(
                    f"no aggregator reached in {minutes:.1f} minutes ({problem}); nothing is lost:"
                    " run the same command, or the workflow, again when it is back"
                ) from None
            log.warning("%s; trying again", problem)
        time.sleep(pause)
        pause = min(1.6 * pause, _LONGEST_PAUSE_SECONDS)


def _not_yet(seconds: float, answer: Answer) -> FedcallError:
    return FedcallError(
        f"no answer in {seconds / 60:.1f} minutes ({answer.sentence}); nothing is lost:"
        " run the same command, or the workflow, again later"
    )


def _node_key(visitor: Visitor) -> ec.EllipticCurvePrivateKey:
    require_registered(visitor.study, visitor.site, visitor.keys, visits=True)
    return read_node_key(visitor.keys)


def _read_claim(path: Path) -> tuple[bytes, Claim]:
    try:
        signed = Path(path).read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such claim; 'fedcall train-round' writes it") from None
    try:
        return signed, read_unverified(signed, Claim)[0]
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None


def _read_judgement(path: Path) -> tuple[bytes, Judgement]:
    try:
        signed = Path(path).read_bytes()
        return signed, read_unverified(signed, Judgement)[0]
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such judgement; 'fedcall judge' writes it") from None
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None


def _contradicts(listed: JudgedSite, own: Judgement) -> bool:
    return listed.site == own.site and listed.total != own.total


def _coordinator(study: Study) -> str:
    assert study.coordinator is not None  # read_study refuses an incomplete study
    return study.coordinator
