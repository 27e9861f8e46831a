"""Whether an update may enter a round: a pure function of study, history, open round, claim and update.

docs/architecture.md has the order of the checks. Each refusal has a reason code and a sentence for the site.

What an update cost is counted from every claim that arrived with the site's own signature and says that an update was
made, whether it was accepted, refused or late: the release left the site, so its patients' budget is spent. A site
may have spent more than that (a release that never arrived); so it may claim more than we recompute, never less.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from fedcall.documents import is_exact, read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.noise_checks import check_noise_shape
from fedcall.federation.aggregator.update_checks import (
    OpenRound,
    Refused,
    check_envelope,
    check_noise_floor,
    check_norm_ceiling,
    read_update,
)
from fedcall.privacy.accounting.epsilon import Epsilon, compose
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.mechanism.adaptive_clipping import clip_norms
from fedcall.privacy.mechanism.update_noise import largest_share_deviation
from fedcall.privacy.terms import NEWER_TERMS, PrivacyTerms
from fedcall.shown import shown
from fedcall.study.claims import Claim, ReasonCode
from fedcall.study.judgement import Judgement
from fedcall.study.terms import Site, Study

__all__ = [
    "MAX_CLAIM_BYTES",
    "EarlierUploads",
    "OpenRound",
    "UploadDecision",
    "admit_upload",
    "prepare",
    "readable",
    "signed_by",
]

Word = TypeVar("Word", Claim, Judgement)
"""What a site says of itself and signs."""

MAX_CLAIM_BYTES = 64 * 1024
_SENTENCE_LENGTH = 300
_CLIP_TOLERANCE = 1e-9  # relative; other machines may round an exponential differently
_EPSILON_TOLERANCE = 1e-3  # relative; other machines may round a PLD differently

# Composing terms far from the study's can take hours, and a site may claim any. What is outside of these limits has no
# finite epsilon here, which ends the site's budget.
_MAX_OTHER_TERMS = 3
_NOISE_FACTORS = (0.25, 100.0)
_LEAST_SAMPLING_FACTOR = 0.25
_MOST_STEPS_FACTOR = 10


@dataclass(frozen=True)
class EarlierUploads:
    """What the aggregator knows of a site from its own log."""

    accepted_rounds: int = 0
    releases: Mapping[str, PrivacyTerms] | None = None  # content digest of each update received -> its terms
    clip_norm: float | None = None  # where adaptive clipping stands after the last release; None before the first
    has_answered: bool = False  # in the open round
    is_quarantined: bool = False


@dataclass(frozen=True)
class UploadDecision:
    """The outcome: `reason` is "ok" or "withheld" for a good answer, anything else for a refusal."""

    reason: ReasonCode
    sentence: str
    document: str  # digest of the claim, or of the bytes if they hold none
    epsilon: float | None = None
    content: str | None = None  # content digest of the release that the claim says was made
    released: PrivacyTerms | None = None  # its terms
    ledger_head: str | None = None  # of the claim
    clip_norm: float | None = None  # where adaptive clipping stands after this release


def admit_upload(
    study: Study,
    site: str,
    history: EarlierUploads,
    open_round: OpenRound,
    requested: int,
    signed: bytes,
    update: bytes,
) -> UploadDecision:
    """Decide on one upload, on its own; `outliers` compares a round's updates with each other when it closes.

    Parameters
    ----------
    site : str
        Name under which the sender's node key is registered.
    requested : int
        The round the sender says it answers.
    signed : bytes
        The signed claim.
    update : bytes
        The update as a safetensors file; empty when withheld.

    Returns
    -------
    UploadDecision
        Never raises for anything the sender can send.
    """
    decision = UploadDecision("malformed", "", hashlib.sha256(signed).hexdigest())
    try:
        claim = _identify(study, site, signed)
        _check_study(study, claim)
        decision = _account(study, history, claim)
        _check_standing(site, history)
        _check_round(claim, open_round, requested)
        _check_replay(claim, history)
        if claim.outcome == "withheld":
            _check_withheld(claim, update)
            return replace(decision, reason="withheld", sentence=f"site '{site}' withheld its update")
        tensors = read_update(claim, open_round, update)
        _check_mechanism(study, claim)
        _check_clipping(study, claim, history)
        _check_epsilon(study, claim, decision.epsilon)
        check_envelope(study, claim, open_round.values)
        if not open_round.is_masked:  # else nothing is seen of one update: floor and ceiling hold for the sum
            check_noise_floor(study, claim, tensors)
            check_norm_ceiling(study, claim, tensors)
            check_noise_shape(study, claim, tensors, open_round.largest_weight)
    except Refused as refusal:
        return replace(decision, reason=refusal.reason, sentence=readable(refusal.sentence))
    spent = "" if decision.epsilon is None else f"; cumulative epsilon {decision.epsilon:.4g}"
    return replace(decision, reason="ok", sentence=f"accepted{spent}")


def prepare(study: Study, history: EarlierUploads) -> None:
    """Compute ahead what the next honest update of a site will have cost in all, which takes seconds the first time.

    It decides nothing: `admit_upload` asks for the same composition of the same events and finds it done.
    """
    _spent(study, {**(history.releases or {}), "": study.privacy})


def _identify(study: Study, site: str, signed: bytes) -> Claim:
    """Return the claim if it is the site's own word, byte for byte as it was signed."""
    registered = next((known for known in study.sites if known.name == site), None)
    if registered is None:
        raise Refused("unregistered-site", f"site '{site}' is not part of study '{study.name}'")
    return signed_by(registered, signed, Claim)


def signed_by(registered: Site, signed: bytes, kind: type[Word]) -> Word:
    """Return what a registered site signed, byte for byte as it was signed; raise Refused if it is not its own word."""
    what, site = kind.__name__.lower(), registered.name
    if len(signed) > MAX_CLAIM_BYTES:
        raise Refused("too-large", f"a {what} has at most {MAX_CLAIM_BYTES} bytes, found {len(signed)}")
    try:
        document, _ = read_unverified(signed, kind)
    except FedcallError as error:
        raise Refused("malformed", str(error)) from None
    if document.site != site:
        raise Refused("unregistered-site", f"the {what} names site '{document.site}', the node key is that of '{site}'")
    try:
        verify(signed, kind, registered.public_key)
    except FedcallError as error:
        raise Refused("bad-signature", str(error)) from None
    if not is_exact(signed, document):
        raise Refused("malformed", f"the {what} is not in canonical form: other bytes than those that were signed")
    return document


def _check_study(study: Study, claim: Claim) -> None:
    if claim.study != study.digest:
        raise Refused("wrong-study", f"the claim is for study {claim.study}, this is {study.digest}")
    if claim.outcome == "update" and claim.update is None:
        raise Refused("malformed", "the claim says that an update was made, and does not name it")


def _account(study: Study, history: EarlierUploads, claim: Claim) -> UploadDecision:
    """Return what holds from here on whatever the outcome: the release was made, so it is counted."""
    releases = dict(history.releases or {})
    if claim.outcome == "withheld":
        spent = _spent(study, releases)
        return UploadDecision("malformed", "", claim.digest, spent, ledger_head=claim.ledger_head)
    releases.setdefault(str(claim.update), claim.privacy)
    return UploadDecision(
        "malformed",
        "",
        claim.digest,
        _spent(study, releases),
        claim.update,
        claim.privacy,
        claim.ledger_head,
        _next_clip_norm(study, claim, history),
    )


def _check_standing(site: str, history: EarlierUploads) -> None:
    if history.is_quarantined:
        raise Refused("site-quarantined", f"site '{site}' is quarantined; ask the coordinator to release it")


def _check_round(claim: Claim, open_round: OpenRound, requested: int) -> None:
    if claim.round != requested:
        raise Refused("wrong-round", f"the claim is for round {claim.round}, it was sent for round {requested}")
    if claim.round < open_round.number:
        raise Refused("late", f"round {claim.round} is closed; fetch round {open_round.number}")
    if claim.round > open_round.number:
        raise Refused("wrong-round", f"round {claim.round} is not open yet; round {open_round.number} is open")
    if open_round.is_ordered:
        raise Refused("late", f"round {claim.round} takes no more updates: its sum is being opened")
    if claim.base != open_round.base:
        raise Refused(
            "wrong-base", f"the update starts from model {claim.base}, round {claim.round} from {open_round.base}"
        )


def _check_replay(claim: Claim, history: EarlierUploads) -> None:
    if history.has_answered:
        raise Refused("replay", f"site '{claim.site}' has already answered round {claim.round} with another claim")
    if claim.outcome == "update" and claim.update in (history.releases or {}):
        raise Refused("replay", "this update was already received")


def _check_withheld(claim: Claim, update: bytes) -> None:
    if claim.update is not None or update:
        raise Refused("malformed", "a withheld claim comes without an update")


def _check_mechanism(study: Study, claim: Claim) -> None:
    if claim.privacy == study.privacy:
        return
    agreed, used = study.privacy.model_dump(mode="json"), claim.privacy.model_dump(mode="json")
    # Newer terms are left out where they are not used.
    named = {**NEWER_TERMS, **agreed}, {**NEWER_TERMS, **used}
    key = next(key for key in named[0] if named[0][key] != named[1][key])
    raise Refused("mechanism", f"privacy.{key} {named[1][key]} was used, {named[0][key]} is agreed")


def _check_epsilon(study: Study, claim: Claim, epsilon: float | None) -> None:
    cap = study.privacy.max_epsilon
    if study.privacy.noise_multiplier == 0:
        if claim.epsilon is not None:
            raise Refused("epsilon", f"the claim says epsilon {claim.epsilon:g}, but without noise there is none")
        return
    if epsilon is None:
        raise Refused("budget", "an earlier release of this site had no finite epsilon")
    if Epsilon(epsilon, epsilon).exceeds(cap):
        raise Refused("budget", f"cumulative epsilon {epsilon:.4g} passes max_epsilon {cap:g}")
    if claim.epsilon is None or not math.isfinite(claim.epsilon):
        raise Refused("epsilon", f"the claim names no epsilon; {epsilon:.4g} is recomputed")
    if claim.epsilon < epsilon * (1 - _EPSILON_TOLERANCE):
        raise Refused("epsilon", f"the claim says epsilon {claim.epsilon:.6g}, {epsilon:.6g} is recomputed")
    if cap is not None and claim.epsilon > cap * (1 + _EPSILON_TOLERANCE):
        raise Refused("budget", f"the claim says epsilon {claim.epsilon:.4g}, max_epsilon is {cap:g}")


def _check_clipping(study: Study, claim: Claim, history: EarlierUploads) -> None:
    """Refuse a clip norm that does not continue the site's last one by shares that can have been measured."""
    trace = claim.clipping
    if study.privacy.clipping == "fixed":
        if trace is not None:
            raise Refused("mechanism", "the claim tells of adaptive clipping, fixed clipping is agreed")
        return
    if trace is None or len(trace.shares) != study.privacy.steps_per_round:
        raise Refused(
            "mechanism",
            f"the claim has {len(trace.shares) if trace else 'no'} shares of adaptive clipping,"
            f" {study.privacy.steps_per_round} are expected, one a step",
        )
    start = history.clip_norm or study.privacy.clip_norm
    if not math.isclose(trace.start, start, rel_tol=_CLIP_TOLERANCE):
        raise Refused(
            "mechanism", f"clipping starts at {trace.start:.6g}, the site's last release ended at {start:.6g}"
        )
    limit = largest_share_deviation(study.privacy, study.units(claim.site))
    worst = max(trace.shares, key=lambda share: abs(share - 0.5))
    if abs(worst - 0.5) > limit:
        raise Refused(
            "mechanism", f"a share of {worst:.4g} cannot be measured: it is more than {limit:.3g} from a half"
        )


def _next_clip_norm(study: Study, claim: Claim, history: EarlierUploads) -> float | None:
    try:
        _check_clipping(study, claim, history)
    except Refused:
        return None
    return clip_norms(study.privacy, claim.clipping)[-1] if claim.clipping else None


def _spent(study: Study, releases: Mapping[str, PrivacyTerms]) -> float | None:
    """Return the cumulative epsilon of releases; None if it is not finite, or their terms are beyond computing."""
    counts: dict[Event, int] = {}
    others = {terms for terms in releases.values() if terms != study.privacy}
    if len(others) > _MAX_OTHER_TERMS or not all(_is_comparable(study.privacy, terms) for terms in others):
        return None
    for terms in releases.values():
        event = round_event(terms)
        counts[event] = counts.get(event, 0) + 1
    if not counts:
        return 0.0 if study.privacy.noise_multiplier > 0 else None
    return _composed(tuple(counts.items()), study.privacy.delta)


def _is_comparable(agreed: PrivacyTerms, used: PrivacyTerms) -> bool:
    if used.noise_multiplier == 0 or agreed.noise_multiplier == 0 or used.unit != agreed.unit:
        return False
    least, most = (factor * agreed.noise_multiplier for factor in _NOISE_FACTORS)
    return (
        least <= used.noise_multiplier <= most
        and used.sampling_rate >= _LEAST_SAMPLING_FACTOR * agreed.sampling_rate
        and used.steps_per_round <= _MOST_STEPS_FACTOR * agreed.steps_per_round
    )


@lru_cache(maxsize=256)
def _composed(events: tuple[tuple[Event, int], ...], delta: float) -> float | None:
    if any(event.noise_multiplier == 0 for event, _ in events):
        return None
    epsilon = compose(events, delta).pld
    return float(epsilon) if math.isfinite(epsilon) else None


def readable(sentence: str) -> str:
    """Return a sentence that fits into a log and a terminal of any character set, whatever was quoted in it."""
    plain = shown(sentence.encode("ascii", "backslashreplace").decode(), _SENTENCE_LENGTH - 2)
    return plain.replace("…", "...")  # the mark of a cut, the only letter here that is not ASCII
