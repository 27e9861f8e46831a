"""A helper answers one list a round, for sites and numbers of sites of the study it approved, and nothing else."""

import base64
import json
import os

import numpy as np
import pytest
from safetensors.numpy import load

from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.federation.helper.decision import Post, decide
from fedcall.federation.helper.log import Answered
from fedcall.keys import create_keys, read_signing_key
from fedcall.protection.helper_keys import read_sealing_private
from fedcall.protection.masks import flat, unflat
from fedcall.study.claims import Claim
from fedcall.study.sum_orders import ListedUpdate, OrderPapers, SumOrder
from fedcall.weights import read_weights
from masked_consortium import MaskedConsortium, make_masked_consortium

FUZZED = int(os.environ.get("FEDCALL_FUZZED_ORDERS", "100"))


@pytest.fixture
def consortium(tmp_path):
    folder = tmp_path
    return make_masked_consortium(folder, patients={"east": 20, "north": 40, "south": 20, "west": 20}, rounds=3)


class Orders:
    """Makes orders as a coordinator with any intention would."""

    def __init__(self, consortium: MaskedConsortium) -> None:
        self.consortium = consortium
        self.base = read_weights(consortium.initial)
        helper = consortium.study.protection.helpers[0]
        self.post = Post(consortium.study, helper.name, read_sealing_private(consortium.keys(helper.name)))

    def make(self, sites=("east", "north", "south"), number=1, claims=None, **changes):
        claims = claims or {site: self.consortium.answer(site, number, self.base)[0] for site in sites}
        found = {site: read_unverified(claims[site], Claim)[0] for site in sites}
        content = {
            "study": self.consortium.study.digest,
            "round": number,
            "base": self.base.digest,
            "values": found[sites[0]].envelope.values,
            "updates": [
                ListedUpdate(site=site, claim=claim.digest, update=claim.update)
                for site, claim in sorted(found.items())
            ],
            **changes,
        }
        order = SumOrder.model_validate(content)
        papers = OrderPapers(claims=tuple(claims[site].decode() for site in sorted(sites)), newest=None)
        return self.consortium.sign_as_coordinator(order), papers

    def answered(self, given):
        order = given.order
        entry = Answered(
            study=order.study,
            round=order.round,
            order=order.digest,
            sites=order.sites,
            values=order.values,
            masks=given.digest,
            unopened=given.unopened,
        )
        return {order.round: entry}


@pytest.fixture
def orders(consortium):
    return Orders(consortium)


def refused(orders, signed, papers, match, answered=None):
    with pytest.raises(FedcallError, match=match):
        decide(orders.post, answered or {}, signed, papers)


def test_decide__gives_the_sum_of_exactly_the_listed_masks(orders, consortium):
    sites = ("east", "north", "south")
    given = decide(orders.post, {}, *orders.make(sites))
    masked = {site: load(consortium.answer(site, 1, orders.base)[1]) for site in sites}
    vectors = {site: consortium.vector(site, 1, orders.base) for site in sites}
    opened = unflat(sum(flat(masked[site]) for site in sites) - given.masks, vectors["east"])
    assert all(np.array_equal(opened[name], sum(vectors[site][name] for site in sites)) for name in opened)


def test_decide__the_same_order_again_and_never_another_list(orders):
    first = orders.make()
    given = decide(orders.post, {}, *first)
    answered = orders.answered(given)
    assert decide(orders.post, answered, *first).digest == given.digest
    for sites in (("east", "north", "west"), ("east", "north", "south", "west"), ("north", "south", "west")):
        refused(orders, *orders.make(sites), "for another list", answered)
    refused(orders, *orders.make(values=1), "for another list", answered)


def test_decide__an_old_round_is_refused(orders):
    answered = orders.answered(decide(orders.post, {}, *orders.make(number=3)))
    refused(orders, *orders.make(number=2), "round 2 is over", answered)
    refused(orders, *orders.make(number=4), "has 3 rounds")


def test_decide__fewer_sites_than_agreed_are_refused(orders):
    refused(orders, *orders.make(("east", "north")), "no sum of fewer than 3")


def test_decide__an_invented_site_is_refused(orders, consortium, tmp_path):
    create_keys(tmp_path / "invented", "invented")
    claim = json.loads(consortium.answer("west", 1, orders.base)[0])["body"] | {"site": "invented"}
    signed = sign(Claim.model_validate(claim), read_signing_key(tmp_path / "invented"))
    claims = {site: consortium.answer(site, 1, orders.base)[0] for site in ("east", "north")}
    sites = ("east", "invented", "north")
    refused(orders, *orders.make(sites, claims={**claims, "invented": signed}), "'invented', which is no site")
    # And the real name with another key.
    forged = sign(Claim.model_validate({**claim, "site": "west"}), read_signing_key(tmp_path / "invented"))
    refused(orders, *orders.make(("east", "north", "west"), claims={**claims, "west": forged}), "signed by another key")


def test_decide__a_site_listed_twice_is_no_order(orders):
    listed = ListedUpdate(site="east", claim="0" * 64, update="0" * 64)
    with pytest.raises(ValueError, match="each site once"):
        orders.make(updates=(listed, listed, listed))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"round": 2}, "another round"),
        ({"base": "0" * 64}, "another base"),
        ({"study": "0" * 64}, "another study"),
        ({"update": "0" * 64}, None),
        ({"envelope": None}, "not for a masked update"),
        ({"outcome": "withheld"}, "another outcome"),
    ],
)
def test_decide__a_claim_for_something_else_is_refused(orders, consortium, change, match):
    claims = {site: consortium.answer(site, 1, orders.base)[0] for site in ("east", "north")}
    body = Claim.model_validate({**json.loads(consortium.answer("south", 1, orders.base)[0])["body"], **change})
    signed = consortium.sign_claim(body, "south")
    made = orders.make(claims={**claims, "south": signed})
    if match is None:  # a seed that was sealed for another update: nothing is given for anybody
        given = decide(orders.post, {}, *made)
        assert (given.masks, given.unopened) == (None, ("south",))
    else:
        refused(orders, *made, match)


def test_decide__less_noise_than_agreed_is_refused(orders, consortium):
    terms = consortium.study.privacy.model_copy(update={"noise_multiplier": 0.1})
    claims = {site: consortium.answer(site, 1, orders.base)[0] for site in ("east", "north")}
    claims["south"] = consortium.answer("south", 1, orders.base, privacy=terms)[0]
    refused(orders, *orders.make(claims=claims), "other privacy terms")


def test_decide__another_signature_than_the_coordinators_is_refused(orders, consortium):
    signed, papers = orders.make()
    order = read_unverified(signed, SumOrder)[0]
    refused(orders, sign(order, read_signing_key(consortium.keys("north"))), papers, "signed by another key")


def test_decide__claims_of_other_updates_than_listed_are_refused(orders):
    signed, _ = orders.make()
    _, papers = orders.make(("east", "north", "west"))
    refused(orders, signed, papers, "signed by another key")
    refused(orders, signed, OrderPapers(claims=papers.claims[:2], newest=None), "comes with 2 claims")


def test_decide__a_seed_moved_from_another_site_does_not_open(orders, consortium):
    """The coordinator cannot put one hospital's mask under another's name, nor a round's into another."""
    claims = {site: consortium.answer(site, 1, orders.base)[0] for site in ("east", "north")}
    body = json.loads(consortium.answer("south", 1, orders.base)[0])["body"]
    for source in (
        json.loads(claims["east"])["body"],
        json.loads(consortium.answer("south", 2, orders.base)[0])["body"],
    ):
        moved = Claim.model_validate({**body, "envelope": source["envelope"]})
        given = decide(orders.post, {}, *orders.make(claims={**claims, "south": consortium.sign_claim(moved, "south")}))
        assert (given.masks, given.unopened) == (None, ("south",))


def fuzzed(generator: np.random.Generator, content: bytes) -> bytes:
    """Return a message with something done to it: bytes changed, cut, repeated, or a value of its JSON replaced."""
    kind = generator.integers(5)
    if kind == 0:
        changed = bytearray(content)
        for position in generator.integers(len(changed), size=generator.integers(1, 4)):
            changed[position] ^= 1 << generator.integers(8)
        return bytes(changed)
    if kind == 1:
        return content[: generator.integers(len(content))]
    if kind == 2:
        return generator.bytes(int(generator.integers(1, 300)))
    tree = json.loads(content)
    places = list(_places(tree))
    holder, key = places[generator.integers(len(places))]
    odd = [
        None,
        -1,
        2**70,
        "",
        "0" * 64,
        [],
        {},
        "\ud800",
        True,
        1.5,
        [[]] * 20,
        "x" * 1000,
        base64.b64encode(b"a").decode(),
    ]
    holder[key] = odd[generator.integers(len(odd))]
    return json.dumps(tree).encode()


def _places(tree):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def answer_fuzzed(consortium: MaskedConsortium, orders: Orders, count: int, seed: int) -> int:
    """Return how many of so many fuzzed orders and envelopes were refused; anything but a refusal raises."""
    generator = np.random.default_rng(seed)
    signed, papers = orders.make()
    whole = papers.canonical()
    desk = consortium.desk("notary")
    refusals = 0
    while refusals < count:
        is_order = generator.integers(2)
        order, paper = (fuzzed(generator, signed), whole) if is_order else (signed, fuzzed(generator, whole))
        if order == signed and _same(paper, whole):
            continue
        with pytest.raises(FedcallError):
            desk.answer(order, paper, 1)
        refusals += 1
    assert desk.log.lines == []
    return refusals


def _same(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_decide__fuzzed_orders_and_envelopes_are_never_answered_and_never_crash(consortium, orders):
    assert answer_fuzzed(consortium, orders, FUZZED, seed=1) == FUZZED
