"""Whether a site's judgement counts: a pure function of study, final model and what the site sent."""

import hashlib
import math
from dataclasses import dataclass, replace

from fedcall.federation.aggregator.admission import readable, signed_by
from fedcall.federation.aggregator.update_checks import Refused
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.claims import ReasonCode
from fedcall.study.judgement import Judgement, judge_event
from fedcall.study.terms import Study

_RARE = 1e-9
"""Chance with which an honest site's noise is larger than what is let in."""


@dataclass(frozen=True)
class JudgingState:
    """What the aggregator knows: the final model (empty before it is ready), and of the site."""

    final: str
    is_closed: bool = False
    has_answered: bool = False
    is_quarantined: bool = False


@dataclass(frozen=True)
class JudgementDecision:
    """The outcome: `reason` is "ok" or "withheld" for a good answer, anything else for a refusal."""

    reason: ReasonCode
    sentence: str
    document: str  # digest of the judgement, or of the bytes if they hold none
    total: int | None = None
    ledger_head: str | None = None


def admit_judgement(study: Study, site: str, state: JudgingState, signed: bytes, update: bytes) -> JudgementDecision:
    """Decide on one judgement; never raises for anything the sender can send.

    Parameters
    ----------
    site : str
        Name under which the sender's node key is registered.
    signed : bytes
        The signed judgement.
    update : bytes
        What came with it: nothing is expected.
    """
    decision = JudgementDecision("malformed", "", hashlib.sha256(signed).hexdigest())
    try:
        judgement = _identify(study, site, signed)
        decision = replace(decision, document=judgement.digest, ledger_head=judgement.ledger_head)
        _check_standing(study, state, judgement)
        if update:
            raise Refused("malformed", "a judgement comes without a file")
        if judgement.outcome == "withheld":
            if judgement.total is not None:
                raise Refused("malformed", "a withheld judgement has no total")
            return replace(decision, reason="withheld", sentence=f"site '{site}' withheld its judgement")
        _check_terms(study, judgement)
        _check_range(study, judgement)
    except Refused as refusal:
        return replace(decision, reason=refusal.reason, sentence=readable(refusal.sentence))
    return replace(decision, reason="ok", sentence="accepted", total=judgement.total)


def largest_total(study: Study, people: int) -> int:
    """Return the largest total, in grid points, that an honest site of so many held-out patients releases."""
    assert study.evaluation is not None
    event = judge_event(study.evaluation)
    tails = math.log(1 / _RARE) if event.mechanism == "laplace" else math.sqrt(2 * math.log(2 / _RARE))
    return math.ceil((people + tails * event.noise_multiplier) * GRID)


def _identify(study: Study, site: str, signed: bytes) -> Judgement:
    registered = next((known for known in study.judging_sites if known.name == site), None)
    if registered is None:
        raise Refused("unregistered-site", f"site '{site}' declared no held-out patients in study '{study.name}'")
    return signed_by(registered, signed, Judgement)


def _check_standing(study: Study, state: JudgingState, judgement: Judgement) -> None:
    if judgement.study != study.digest:
        raise Refused("wrong-study", f"the judgement is for study {judgement.study}, this is {study.digest}")
    if state.is_quarantined:
        raise Refused("site-quarantined", f"site '{judgement.site}' is quarantined; ask the coordinator to release it")
    if not state.final:
        raise Refused("wrong-round", "the final model is not ready yet, so nobody can have judged it")
    if state.has_answered:
        raise Refused("replay", f"site '{judgement.site}' has already judged, with another total")
    if state.is_closed:
        raise Refused("late", "the judgements are closed")
    if (judgement.initial, judgement.final) != (study.model.initial_weights, state.final):
        raise Refused("wrong-base", "the judgement compares other models than the first and the last of the study")


def _check_terms(study: Study, judgement: Judgement) -> None:
    if judgement.evaluation != study.evaluation:
        raise Refused("mechanism", "the judgement was made under other terms than the study's evaluation")
    declared = study.site(judgement.site).holdout
    if judgement.people != declared:
        raise Refused("mechanism", f"{judgement.people} held-out patients are named, {declared} are declared")


def _check_range(study: Study, judgement: Judgement) -> None:
    if judgement.total is None:
        raise Refused("malformed", "the judgement has no total")
    limit = largest_total(study, judgement.people)
    if abs(judgement.total) > limit:
        raise Refused("range", f"a total of {judgement.total} cannot be: it is beyond {limit} in grid points")
