"""Whether an update may enter the average: a pure function of study, history, open round, claim and update.

The order of the checks is that of design §7. Each refusal has a reason code and a sentence for the site.

What an update cost is counted from every claim that arrived with the site's own signature and says that an update was
made, whether it was accepted, refused or late: the release left the site, so its patients' budget is spent. A site
may have spent more than that (a release that never arrived); so it may claim more than we recompute, never less.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from fedcall.documents import read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.federation.claims import Claim, ReasonCode
from fedcall.federation.study import Site, Study
from fedcall.privacy.accounting import compose
from fedcall.privacy.adaptive_clipping import clip_norms, step_clip_norms
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.terms import PrivacyTerms
from fedcall.privacy.update_noise import largest_share_deviation, norm_bounds
from fedcall.weights import weights_digest

MAX_CLAIM_BYTES = 64 * 1024
_HEADER_BYTES = 64 * 1024  # names, shapes and metadata of an update file
_CLIP_TOLERANCE = 1e-9  # relative; other machines may round an exponential differently
_EPSILON_TOLERANCE = 1e-3  # relative; other machines may round a PLD differently


@dataclass(frozen=True)
class History:
    """What the aggregator knows of a site from its own log."""

    accepted_rounds: int = 0
    releases: Mapping[str, PrivacyTerms] | None = None  # content digest of each update received -> its terms
    clip_norm: float | None = None  # where adaptive clipping stands after the last release; None before the first
    has_answered: bool = False  # in the open round
    is_quarantined: bool = False


@dataclass(frozen=True)
class OpenRound:
    """The round that collects updates: its number, its base and the shapes an update must have."""

    number: int
    base: str
    shapes: Mapping[str, tuple[int, ...]]  # of the trainable tensors


@dataclass(frozen=True)
class Decision:
    """The outcome: `reason` is "ok" or "withheld" for a good answer, anything else for a refusal."""

    reason: ReasonCode
    sentence: str
    document: str  # digest of the claim, or of the bytes if they hold none
    epsilon: float | None = None
    content: str | None = None  # content digest of the release that the claim says was made
    released: PrivacyTerms | None = None  # its terms
    ledger_head: str | None = None  # of the claim
    clip_norm: float | None = None  # where adaptive clipping stands after this release


class _Refused(Exception):  # noqa: N818
    def __init__(self, reason: ReasonCode, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: ReasonCode = reason
        self.sentence = sentence


def judge(
    study: Study, site: str, history: History, open_round: OpenRound, requested: int, signed: bytes, update: bytes
) -> Decision:
    """Decide on one upload.

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
    Decision
        Never raises for anything the sender can send.
    """
    document = hashlib.sha256(signed).hexdigest()
    content: str | None = None
    released: PrivacyTerms | None = None
    epsilon: float | None = None
    ledger_head: str | None = None
    clip_norm: float | None = None
    try:
        registered, claim = _identify(study, site, signed)
        document, ledger_head = claim.digest, claim.ledger_head
        if claim.study != study.digest:
            raise _Refused("wrong-study", f"the claim is for study {claim.study}, this is {study.digest}")
        if claim.outcome == "update":
            content, released = claim.update, claim.privacy
            clip_norm = _next_clip_norm(study, claim, history)
        is_new = content is not None and content not in (history.releases or {})
        epsilon = _spent(study, history, (content, released) if is_new else None)
        if history.is_quarantined:
            raise _Refused("site-quarantined", f"site '{site}' is quarantined; ask the coordinator to release it")
        _check_round(claim, open_round, requested)
        if history.has_answered:
            raise _Refused("replay", f"site '{site}' has already answered round {claim.round} with another claim")
        if claim.outcome == "update" and not is_new:
            raise _Refused("replay", "this update was already received")
        if claim.outcome == "withheld":
            if claim.update is not None or update:
                raise _Refused("malformed", "a withheld claim comes without an update")
            return Decision(
                "withheld", f"site '{site}' withheld its update", document, epsilon, ledger_head=ledger_head
            )
        tensors = _read_update(claim, open_round, update)
        _check_mechanism(study, claim)
        _check_epsilon(study, claim, epsilon)
        _check_clipping(study, claim, history)
        _check_norm(study, registered, claim, tensors)
    except _Refused as refusal:
        return Decision(refusal.reason, refusal.sentence, document, epsilon, content, released, ledger_head, clip_norm)
    sentence = "accepted" if epsilon is None else f"accepted; cumulative epsilon {epsilon:.4g}"
    return Decision("ok", sentence, document, epsilon, content, released, ledger_head, clip_norm)


def _identify(study: Study, site: str, signed: bytes) -> tuple[Site, Claim]:
    registered = next((known for known in study.sites if known.name == site), None)
    if registered is None:
        raise _Refused("unregistered-site", f"site '{site}' is not part of study '{study.name}'")
    if len(signed) > MAX_CLAIM_BYTES:
        raise _Refused("too-large", f"a claim has at most {MAX_CLAIM_BYTES} bytes, found {len(signed)}")
    try:
        claim, _ = read_unverified(signed, Claim)
    except FedcallError as error:
        raise _Refused("malformed", str(error)) from None
    if claim.site != site:
        raise _Refused("unregistered-site", f"the claim names site '{claim.site}', the node key is that of '{site}'")
    try:
        return registered, verify(signed, Claim, registered.public_key)
    except FedcallError as error:
        raise _Refused("bad-signature", str(error)) from None


def _check_round(claim: Claim, open_round: OpenRound, requested: int) -> None:
    if claim.round != requested:
        raise _Refused("wrong-round", f"the claim is for round {claim.round}, it was sent for round {requested}")
    if claim.round < open_round.number:
        raise _Refused("late", f"round {claim.round} is closed; round {open_round.number} is open")
    if claim.round > open_round.number:
        raise _Refused("wrong-round", f"round {claim.round} is not open yet; round {open_round.number} is open")
    if claim.base != open_round.base:
        raise _Refused(
            "wrong-base", f"the update starts from model {claim.base}, round {claim.round} from {open_round.base}"
        )


def _read_update(claim: Claim, open_round: OpenRound, update: bytes) -> dict[str, np.ndarray]:
    limit = sum(4 * math.prod(shape) for shape in open_round.shapes.values()) + _HEADER_BYTES
    if len(update) > limit:
        raise _Refused("too-large", f"an update of this model has at most {limit} bytes, found {len(update)}")
    try:
        tensors = load(update)
        digest = weights_digest(tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _Refused("malformed", f"the update is not a complete safetensors file ({error})") from None
    if digest != claim.update:
        raise _Refused("malformed", f"the update has digest {digest}, the claim says {claim.update}")
    if set(tensors) != set(open_round.shapes):
        odd = sorted(set(tensors) ^ set(open_round.shapes))[0]
        verb = "is not trainable here" if odd in tensors else "is missing"
        raise _Refused("tensor-names", f"tensor '{odd[:80]}' {verb}; exactly the trainable tensors are expected")
    for name, shape in sorted(open_round.shapes.items()):
        if tensors[name].shape != shape:
            raise _Refused("tensor-shape", f"tensor '{name}' has shape {tensors[name].shape}, {shape} is expected")
        if tensors[name].dtype != np.float32:
            raise _Refused("tensor-dtype", f"tensor '{name}' is {tensors[name].dtype}, float32 is expected")
        if not np.isfinite(tensors[name]).all():
            raise _Refused("not-finite", f"tensor '{name}' has values that are not finite")
    return tensors


def _check_mechanism(study: Study, claim: Claim) -> None:
    if claim.privacy == study.privacy:
        return
    agreed, used = study.privacy.model_dump(mode="json"), claim.privacy.model_dump(mode="json")
    key = next(key for key in agreed if agreed[key] != used[key])
    raise _Refused("mechanism", f"privacy.{key} {used[key]} was used, {agreed[key]} is agreed")


def _check_epsilon(study: Study, claim: Claim, epsilon: float | None) -> None:
    cap = study.privacy.max_epsilon
    if study.privacy.noise_multiplier == 0:
        if claim.epsilon is not None:
            raise _Refused("epsilon", f"the claim says epsilon {claim.epsilon:g}, but without noise there is none")
        return
    if epsilon is None:
        raise _Refused("budget", "an earlier release of this site had no finite epsilon")
    if cap is not None and epsilon > cap:
        raise _Refused("budget", f"cumulative epsilon {epsilon:.4g} passes max_epsilon {cap:g}")
    if claim.epsilon is None or not math.isfinite(claim.epsilon):
        raise _Refused("epsilon", f"the claim names no epsilon; {epsilon:.4g} is recomputed")
    if claim.epsilon < epsilon * (1 - _EPSILON_TOLERANCE):
        raise _Refused("epsilon", f"the claim says epsilon {claim.epsilon:.6g}, {epsilon:.6g} is recomputed")
    if cap is not None and claim.epsilon > cap * (1 + _EPSILON_TOLERANCE):
        raise _Refused("budget", f"the claim says epsilon {claim.epsilon:.4g}, max_epsilon is {cap:g}")


def _check_clipping(study: Study, claim: Claim, history: History) -> None:
    """Refuse a clip norm that does not continue the site's last one by shares that can have been measured."""
    trace = claim.clipping
    if study.privacy.clipping == "fixed":
        if trace is not None:
            raise _Refused("mechanism", "the claim tells of adaptive clipping, fixed clipping is agreed")
        return
    if trace is None or len(trace.shares) != study.privacy.steps_per_round:
        raise _Refused(
            "mechanism",
            f"the claim has {len(trace.shares) if trace else 'no'} shares of adaptive clipping,"
            f" {study.privacy.steps_per_round} are expected, one a step",
        )
    start = history.clip_norm or study.privacy.clip_norm
    if not math.isclose(trace.start, start, rel_tol=_CLIP_TOLERANCE):
        raise _Refused(
            "mechanism", f"clipping starts at {trace.start:.6g}, the site's last release ended at {start:.6g}"
        )
    limit = largest_share_deviation(study.privacy, study.units(claim.site))
    worst = max(trace.shares, key=lambda share: abs(share - 0.5))
    if abs(worst - 0.5) > limit:
        raise _Refused(
            "mechanism", f"a share of {worst:.4g} cannot be measured: it is more than {limit:.3g} from a half"
        )


def _next_clip_norm(study: Study, claim: Claim, history: History) -> float | None:
    try:
        _check_clipping(study, claim, history)
    except _Refused:
        return None
    return clip_norms(study.privacy, claim.clipping)[-1] if claim.clipping else None


def _check_norm(study: Study, site: Site, claim: Claim, tensors: Mapping[str, np.ndarray]) -> None:
    norm = math.sqrt(sum(float(np.square(tensor, dtype=np.float64).sum()) for tensor in tensors.values()))
    parameters = sum(tensor.size for tensor in tensors.values())
    terms = study.training
    bounds = _bounds(
        study.privacy,
        terms.learning_rate,
        terms.iterate_averaging,
        study.units(site.name),
        parameters,
        tuple(step_clip_norms(study.privacy, claim.clipping)),
    )
    if norm < bounds[0]:
        raise _Refused(
            "noise-floor", f"the update's norm {norm:.4g} is below {bounds[0]:.4g}: it cannot carry the agreed noise"
        )
    agreed = study.admission.max_update_norm
    ceiling = bounds[1] if agreed is None else min(agreed, bounds[1])
    if norm > ceiling:
        raise _Refused("norm-ceiling", f"the update's norm {norm:.4g} is above {ceiling:.4g}")


def _spent(study: Study, history: History, fresh: tuple[str | None, PrivacyTerms | None] | None) -> float | None:
    """Return the cumulative epsilon of all releases received, the fresh one included; None if it is not finite."""
    counts: dict[Event, int] = {}
    terms = list((history.releases or {}).values())
    if fresh is not None and fresh[1] is not None:
        terms.append(fresh[1])
    for each in terms:
        event = round_event(each)
        counts[event] = counts.get(event, 0) + 1
    if not counts:
        return 0.0 if study.privacy.noise_multiplier > 0 else None
    return _composed(tuple(counts.items()), study.privacy.delta)


@lru_cache(maxsize=256)
def _composed(events: tuple[tuple[Event, int], ...], delta: float) -> float | None:
    if any(event.noise_multiplier == 0 for event, _ in events):
        return None
    if len({event.unit for event, _ in events}) > 1:
        return None  # epsilons of different units do not add up
    epsilon = compose(events, delta).pld
    return float(epsilon) if math.isfinite(epsilon) else None


@lru_cache(maxsize=256)
def _bounds(
    terms: PrivacyTerms,
    learning_rate: float,
    averaging: float,
    units: int,
    parameters: int,
    clip_norms: tuple[float, ...],
) -> tuple[float, float]:
    bounds = norm_bounds(terms, learning_rate, averaging, units, parameters, clip_norms)
    return bounds.floor, bounds.ceiling
