"""Whether a helper answers a sum order, and with what: a pure function of study, key, log and order.

A helper believes nobody. What it is shown it holds against the study that it approved itself: who the sites are, and
how few of them a sum may have. Its one promise, on which everything rests: for a round of a study it gives the masks of
one list, and never of another, since two lists that differ by one hospital would show that hospital's update.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import ValidationError

from fedcall.documents import is_exact, verify
from fedcall.errors import FedcallError
from fedcall.federation.helper.log import Answered
from fedcall.protection.masks import open_seed, seed_info, sum_of_masks
from fedcall.study.claims import Claim
from fedcall.study.sum_orders import ListedUpdate, OrderPapers, SumOrder
from fedcall.study.terms import Site, Study

MAX_ORDER_BYTES = 4 * 1024 * 1024
_MAX_CLAIM_CHARACTERS = 64 * 1024
AN_UPDATE = {"masked": "a masked update", "encrypted": "an encrypted update"}


@dataclass(frozen=True)
class Post:
    """A helper's place in a study: its name there, and the key that opens what sites sealed to it."""

    study: Study
    name: str
    key: X25519PrivateKey


@dataclass(frozen=True)
class Given:
    """What an order is answered with: the sum of the masks (uint32), or the sites whose seeds do not open."""

    order: SumOrder
    masks: np.ndarray | None
    unopened: tuple[str, ...]

    @property
    def digest(self) -> str | None:
        """SHA-256 of the sum of the masks."""
        return None if self.masks is None else hashlib.sha256(mask_bytes(self.masks)).hexdigest()


def decide(post: Post, answered: Mapping[int, Answered], signed: bytes, papers: OrderPapers) -> Given:
    """Return the answer to an order.

    Parameters
    ----------
    answered : mapping of int to Answered
        What the helper's log says of this study's rounds.
    signed : bytes
        The order as the coordinator signed it.
    papers : OrderPapers
        The listed claims as their sites signed them, in the order's order.

    Raises
    ------
    FedcallError
        If it is not to be answered; in one sentence, why.
    """
    order = _read_order(post.study, signed)
    _check_round(post.study, answered, order)
    _check_list(post.study, order)
    if len(papers.claims) != len(order.updates):
        raise FedcallError(f"the order lists {len(order.updates)} updates and comes with {len(papers.claims)} claims")
    claims = [
        _check_claim(post, order, listed, text) for listed, text in zip(order.updates, papers.claims, strict=True)
    ]
    seeds = {claim.site: _open(post, claim) for claim in claims}
    opened = [seed for seed in seeds.values() if seed is not None]
    unopened = tuple(site for site, seed in seeds.items() if seed is None)
    given = Given(order, None if unopened else sum_of_masks(opened, order.values), unopened)
    known = answered.get(order.round)
    if known is not None and (known.masks, known.unopened) != (given.digest, given.unopened):
        raise FedcallError(f"round {order.round}: the log holds another sum than these claims give; ask for help")
    return given


def read_papers(content: bytes) -> OrderPapers:
    """Return the papers in bytes that come from anywhere; FedcallError if they hold none."""
    try:
        return OrderPapers.model_validate_json(content)
    except ValidationError:
        raise FedcallError("the order comes without its papers") from None


def mask_bytes(masks: np.ndarray) -> bytes:
    """Return a sum of masks as it travels: little-endian 32-bit numbers."""
    return masks.astype("<u4", copy=False).tobytes()


def _read_order(study: Study, signed: bytes) -> SumOrder:
    if len(signed) > MAX_ORDER_BYTES:
        raise FedcallError(f"an order has at most {MAX_ORDER_BYTES} bytes, found {len(signed)}")
    order = verify(signed, SumOrder, str(study.coordinator))
    if not is_exact(signed, order):
        raise FedcallError("the order is not in canonical form: other bytes than those that were signed")
    if order.study != study.digest:
        raise FedcallError(f"the order is for study {order.study}, this helper serves {study.digest}")
    if order.round > study.rounds:
        raise FedcallError(f"study '{study.name}' has {study.rounds} rounds, found an order for round {order.round}")
    return order


def _check_round(study: Study, answered: Mapping[int, Answered], order: SumOrder) -> None:
    known = answered.get(order.round)
    if known is not None and known.order != order.digest:
        raise FedcallError(
            f"round {order.round} was answered for another list (order {known.order[:12]}…, {len(known.sites)} sites);"
            " a round is opened for one list only"
        )
    newest = max(answered, default=0)
    if known is None and order.round < newest:
        raise FedcallError(f"round {order.round} is over: round {newest} was answered")


def _check_list(study: Study, order: SumOrder) -> None:
    registered = {site.name for site in study.sites}
    stranger = next((name for name in order.sites if name not in registered), None)
    if stranger is not None:
        raise FedcallError(f"the order lists '{stranger}', which is no site of study '{study.name}'")
    if len(order.updates) < study.least_sites:
        raise FedcallError(
            f"the order lists {len(order.updates)} sites, the study allows no sum of fewer than {study.least_sites}"
        )


def _check_claim(post: Post, order: SumOrder, listed: ListedUpdate, text: str) -> Claim:
    """Return the claim of a listed update if its site signed it, for this very update of this round."""
    site = post.study.site(listed.site)
    claim = _read_claim(site, text)
    wanted = (order.study, listed.site, order.round, "update", order.base, listed.update, listed.claim)
    found = (claim.study, claim.site, claim.round, claim.outcome, claim.base, claim.update, claim.digest)
    names = ("study", "site", "round", "outcome", "base", "update", "claim")
    odd = next((name for name, one, other in zip(names, found, wanted, strict=True) if one != other), None)
    if odd is not None:
        raise FedcallError(f"site '{site.name}': its claim names another {odd} than the order")
    if claim.privacy != post.study.privacy:
        raise FedcallError(f"site '{site.name}': its claim names other privacy terms than the study")
    mode = post.study.protection.mode
    if claim.envelope is None or (claim.envelope.kind, claim.envelope.values) != (mode, order.values):
        raise FedcallError(f"site '{site.name}': its claim is not for {AN_UPDATE[mode]} of {order.values} numbers")
    return claim


def _read_claim(site: Site, text: str) -> Claim:
    signed = text.encode("utf-8", "surrogatepass")
    if len(text) > _MAX_CLAIM_CHARACTERS:
        raise FedcallError(f"site '{site.name}': its claim is too long")
    try:
        claim = verify(signed, Claim, site.public_key)
    except FedcallError as error:
        raise FedcallError(f"site '{site.name}': {error}") from None
    if not is_exact(signed, claim):
        raise FedcallError(f"site '{site.name}': its claim is not in canonical form")
    return claim


def _open(post: Post, claim: Claim) -> bytes | None:
    assert claim.envelope is not None
    assert claim.update is not None
    sealed = [seed.seed for seed in claim.envelope.seeds if seed.helper == post.name]
    info = seed_info(claim.study, claim.site, claim.round, post.name, claim.update)
    return open_seed(sealed[0], post.key, info) if len(sealed) == 1 else None
