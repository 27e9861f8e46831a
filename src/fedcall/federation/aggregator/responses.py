"""What the aggregator answers to a site's request, by whichever way the request came."""

import logging
import time

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Answer, Request
from fedcall.shown import shown

log = logging.getLogger("fedcall.aggregator")


def respond(state: StudyState, site: str, request: Request) -> Answer:
    """Return the answer to a site's request; "wait" while what it asks for is not there yet, so ask again later.

    Parameters
    ----------
    site : str
        Who asks, as its key proved: a site or a helper.

    Raises
    ------
    FedcallError
        If the request is not one that this study answers.
    OSError
        If the answer cannot be stored now; nothing was decided.
    """
    study = state.study
    if request.study != study.digest:
        raise FedcallError(f"this aggregator serves study '{study.name}' ({study.digest}), not {request.study}")
    if site in {helper.name for helper in study.protection.helpers}:
        return _to_helper(state, site, request)
    if request.kind == "evidence":
        return _evidence(state, site, request)
    if request.kind == "upload":
        return _receipt(state, site, request)
    if request.kind == "verdict":
        return _verdict(state, site)
    if request.kind == "log":
        return Answer("log", document=state.extract(site))
    if request.kind == "fetch":
        return _model(state, site, request.round)
    raise FedcallError("nothing was asked")


def _to_helper(state: StudyState, helper: str, request: Request) -> Answer:
    """Answer a helper: it gets sum orders and hears that its answers were taken, and gets nothing else."""
    if request.kind == "order":
        if state.is_done:
            return Answer("done", sentence=state.progress)
        pending = state.sums.pending(helper)
        if pending is None:
            return Answer("wait", sentence=f"no sum is ordered; {state.progress}")
        log.info("helper %s: given the order of round %d", helper, state.log.open_round)
        return Answer("order", *pending)
    if request.kind == "listed":
        return Answer("listed", model=state.sums.listed(helper, shown(request.claim.decode(errors="replace"), 100)))
    if request.kind == "masks":
        state.sums.take(helper, request.claim, request.update)
        log.info("helper %s: took its masks", helper)
        return Answer("taken")
    if request.kind == "refusal":
        sentence = shown(request.claim.decode(errors="replace"), 500)
        state.sums.note_refusal(helper, sentence)
        log.warning("helper %s does not answer the order of round %d: %s", helper, state.log.open_round, sentence)
        return Answer("taken")
    raise FedcallError("a helper asks for sum orders and answers them, and gets nothing else")


def _evidence(state: StudyState, site: str, request: Request) -> Answer:
    if state.enclave is None:
        raise FedcallError(f"study '{state.study.name}' is not sealed: this aggregator runs in no enclave")
    state.log.catch_up()
    offered = state.enclave.answer(site, request.claim, (line.head for line in state.log.log.lines))
    log.info("site %s: given evidence of the enclave", site)
    return Answer("evidence", document=offered.canonical())


def _unsealed(state: StudyState, site: str, request: Request) -> tuple[bytes, bytes, bytes]:
    """Return claim, update, and what came; the last empty where updates come as they are."""
    if state.enclave is None:
        return request.claim, request.update, b""
    if request.claim:
        raise FedcallError(f"study '{state.study.name}' is sealed: claim and update come sealed to its enclave's key")
    return (*state.enclave.open(site, request.round, request.update), request.update)


def _receipt(state: StudyState, site: str, request: Request) -> Answer:
    study = state.study
    start = time.monotonic()
    claim, update, sealed = _unsealed(state, site, request)
    if request.round == study.judging_round and state.judge.is_wanted:
        receipt, what = state.judge.answer(site, claim, update), "its judgement"
    elif request.round > study.rounds:
        raise FedcallError(f"study '{study.name}' has {study.rounds} rounds, found round {request.round}")
    else:
        receipt, what = state.answer(site, request.round, claim, update, sealed), f"round {request.round}"
    log.info("site %s: answered %s in %.2f s", site, what, time.monotonic() - start)
    return Answer("receipt", document=receipt)


def _verdict(state: StudyState, site: str) -> Answer:
    judge = state.judge
    if not judge.is_wanted:
        raise FedcallError(f"study '{state.study.name}' has no judge (evaluation.epsilon)")
    verdict = judge.verdict()
    if verdict is None:
        missing = ", ".join(judge.waiting_for()) or "nobody"
        waits = f"waits for {missing}" if state.is_done else "waits for the final model"
        return Answer("wait", sentence=f"the verdict {waits}")
    log.info("site %s: given the verdict", site)
    return Answer("verdict", document=verdict)


def _model(state: StudyState, site: str, number: int) -> Answer:
    study = state.study
    if number > study.rounds + 1:
        raise FedcallError(
            f"study '{study.name}' has {study.rounds} rounds; round {study.rounds + 1} is the final model"
        )
    if state.log.closed is not None:
        number = min(number, state.final_round)  # whoever waits for a later round is told, by the final opening
    opening = state.opening(number)
    if opening is None:
        missing = ", ".join(state.waiting_for()) or "nobody"
        sentence = f"round {number} is not open: round {state.log.open_round} waits for {missing}"
        return Answer("wait", sentence=sentence)
    log.info("site %s: given the model of round %d", site, number)
    return Answer("model", opening, state.model_path(number).read_bytes(), state.stand_down(site, number))
