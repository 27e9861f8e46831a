"""Each reason for which an update is refused, and the update that is not."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from consortium import SHAPES, make_consortium
from fedcall.federation.aggregator.admission import MAX_CLAIM_BYTES, EarlierUploads, OpenRound, admit_upload
from fedcall.privacy.accounting.epsilon import compose, study_epsilon
from fedcall.privacy.events import round_event
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace
from fedcall.privacy.terms import PrivacyTerms
from fedcall.weights import read_weights


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return make_consortium(tmp_path_factory.mktemp("consortium"), rounds=4)


@pytest.fixture(scope="module")
def base(consortium):
    return read_weights(consortium.initial)


def _judge(consortium, model, /, *, tensors=None, history=None, number=1, update=None, signer="north", **changes):
    """Judge north's answer to round `number` while it is open; by default an honest one."""
    tensors = consortium.update("north", number, model) if tensors is None else tensors
    claim = consortium.claim("north", number, model.digest, tensors, **changes)
    return admit_upload(
        consortium.study,
        "north",
        history or EarlierUploads(),
        OpenRound(number, model.digest, SHAPES),
        number,
        consortium.sign_claim(claim, signer),
        save(tensors) if update is None else update,
    )


def test_admit_upload__honest_update_is_accepted(consortium, base):
    decision = _judge(consortium, base)
    assert decision.reason == "ok"
    assert decision.epsilon == pytest.approx(study_epsilon(consortium.study.privacy, 1).pld)
    assert decision.released == consortium.study.privacy


def test_admit_upload__withheld_costs_nothing(consortium, base):
    claim = consortium.claim("north", 1, base.digest, None)
    signed = consortium.sign_claim(claim, "north")
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    assert (decision.reason, decision.epsilon, decision.released) == ("withheld", 0.0, None)


def test_admit_upload__withheld_with_an_update_is_malformed(consortium, base):
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, None), "north")
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b"x"
    )
    assert decision.reason == "malformed"


def test_admit_upload__withheld_that_names_an_update_is_malformed(consortium, base):
    claim = consortium.claim("north", 1, base.digest, None, update="1" * 64)
    signed = consortium.sign_claim(claim, "north")
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    assert decision.reason == "malformed"


def test_admit_upload__signed_by_another_site(consortium, base):
    decision = _judge(consortium, base, signer="south")
    assert (decision.reason, decision.released) == ("bad-signature", None)


def test_admit_upload__changed_after_signing(consortium, base):
    tensors = consortium.update("north", 1, base)
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, tensors), "north")
    forged = signed.replace(b'"software":"test"', b'"software":"rest"')
    assert forged != signed
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, forged, save(tensors)
    )
    assert decision.reason == "bad-signature"


def test_admit_upload__claim_of_another_site(consortium, base):
    assert _judge(consortium, base, site="south").reason == "unregistered-site"


def test_admit_upload__unregistered_site(consortium, base):
    decision = admit_upload(consortium.study, "east", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, b"", b"")
    assert decision.reason == "unregistered-site"


@pytest.mark.parametrize("signed", [b"", b"\xff\x00", b"[]", b"{}", b'{"body":{},"public_key":"","signature":""}'])
def test_admit_upload__no_claim_at_all(consortium, base, signed):
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    assert decision.reason == "malformed"


def test_admit_upload__wrong_study(consortium, base):
    assert _judge(consortium, base, study="0" * 64).reason == "wrong-study"


@pytest.mark.parametrize(("number", "reason"), [(1, "late"), (3, "wrong-round")])
def test_admit_upload__round_that_is_not_open(consortium, base, number, reason):
    tensors = consortium.update("north", number, base)
    signed = consortium.sign_claim(consortium.claim("north", number, base.digest, tensors), "north")
    open_round = OpenRound(2, base.digest, SHAPES)
    decision = admit_upload(consortium.study, "north", EarlierUploads(), open_round, number, signed, save(tensors))
    assert decision.reason == reason
    assert decision.released == consortium.study.privacy, "the release was made, so it counts"


def test_admit_upload__sent_for_another_round_than_it_is_for(consortium, base):
    tensors = consortium.update("north", 1, base)
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, tensors), "north")
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 2, signed, save(tensors)
    )
    assert decision.reason == "wrong-round"


def test_admit_upload__wrong_base(consortium, base):
    assert _judge(consortium, base, base="1" * 64).reason == "wrong-base"


def test_admit_upload__second_answer_is_a_replay(consortium, base):
    assert _judge(consortium, base, history=EarlierUploads(has_answered=True)).reason == "replay"


def test_admit_upload__update_of_an_earlier_round_is_a_replay(consortium, base):
    first = _judge(consortium, base)
    history = EarlierUploads(1, {first.content: first.released})
    again = _judge(consortium, base, tensors=consortium.update("north", 1, base), history=history, number=2)
    assert again.reason == "replay"
    assert again.epsilon == first.epsilon, "the same release is not paid twice"


def test_admit_upload__quarantined_site(consortium, base):
    assert _judge(consortium, base, history=EarlierUploads(is_quarantined=True)).reason == "site-quarantined"


def test_admit_upload__too_large(consortium, base):
    assert _judge(consortium, base, update=b"\0" * 10_000_000).reason == "too-large"


def test_admit_upload__truncated_update(consortium, base):
    update = save(consortium.update("north", 1, base))
    assert _judge(consortium, base, update=update[:-1]).reason == "malformed"


def test_admit_upload__another_update_than_the_claim_says(consortium, base):
    assert _judge(consortium, base, update=save(consortium.update("south", 1, base))).reason == "malformed"


def test_admit_upload__one_byte_more_than_the_model_allows_is_not_looked_at(consortium, base):
    open_round = OpenRound(1, base.digest, SHAPES)
    allowed = _judge(consortium, base, update=b"x" * open_round.max_update_bytes)
    assert allowed.reason == "malformed", "looked at, and no safetensors file"
    assert _judge(consortium, base, update=b"x" * (open_round.max_update_bytes + 1)).reason == "too-large"


def test_admit_upload__missing_and_extra_tensors(consortium, base):
    tensors = consortium.update("north", 1, base)
    extra = {**tensors, "backdoor": np.zeros(3, np.float32)}
    assert _judge(consortium, base, tensors=extra).reason == "tensor-names"
    del tensors["head.bias"]
    assert _judge(consortium, base, tensors=tensors).reason == "tensor-names"


def test_admit_upload__shape_that_would_broadcast(consortium, base):
    tensors = consortium.update("north", 1, base)
    tensors["head.bias"] = tensors["head.bias"][:1]
    assert _judge(consortium, base, tensors=tensors).reason == "tensor-shape"


def test_admit_upload__wrong_dtype(consortium, base):
    tensors = consortium.update("north", 1, base)
    tensors["head.bias"] = tensors["head.bias"].astype(np.float16)
    assert _judge(consortium, base, tensors=tensors).reason == "tensor-dtype"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_admit_upload__not_finite(consortium, base, value):
    tensors = consortium.update("north", 1, base)
    tensors["head.bias"][1] = value
    assert _judge(consortium, base, tensors=tensors).reason == "not-finite"


@pytest.mark.parametrize("change", [{"noise_multiplier": 0.5}, {"sampling_rate": 1.0}, {"clip_norm": 2.0}])
def test_admit_upload__another_mechanism_is_refused_and_paid_for(consortium, base, change):
    terms = PrivacyTerms.model_validate({**consortium.study.privacy.model_dump(), **change})
    decision = _judge(consortium, base, privacy=terms)
    assert decision.reason == "mechanism"
    assert decision.epsilon == pytest.approx(study_epsilon(terms, 1).pld)


def test_admit_upload__release_without_noise_ends_the_budget(consortium, base):
    terms = PrivacyTerms.model_validate(
        {**consortium.study.privacy.model_dump(), "noise_multiplier": 0, "max_epsilon": None}
    )
    assert _judge(consortium, base, privacy=terms).epsilon is None
    assert _judge(consortium, base, history=EarlierUploads(0, {"0" * 64: terms})).reason == "budget"


def test_admit_upload__epsilon_below_the_recomputed(consortium, base):
    epsilon = study_epsilon(consortium.study.privacy, 1).pld
    assert _judge(consortium, base, epsilon=0.9 * epsilon).reason == "epsilon"
    assert _judge(consortium, base, epsilon=None).reason == "epsilon"
    assert _judge(consortium, base, epsilon=1.5 * epsilon).reason == "ok", "a site may have spent more than arrived"


@pytest.mark.parametrize("epsilon", [math.inf, math.nan])
def test_admit_upload__epsilon_that_is_no_number_cannot_be_claimed(consortium, base, epsilon):
    """Canonical JSON has no such numbers, so no signature covers them; not that of null, either."""
    claim = consortium.claim("north", 1, base.digest, consortium.update("north", 1, base), epsilon=None)
    signed = consortium.sign_claim(claim, "north")
    said = signed.replace(b'"epsilon":null', f'"epsilon":{json.dumps(epsilon)}'.encode())
    assert said != signed
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, said, b""
    )
    assert (decision.reason, decision.released) == ("bad-signature", None)


def test_admit_upload__epsilon_above_the_cap_by_the_sites_own_word(consortium, base):
    assert _judge(consortium, base, epsilon=1.01 * consortium.study.privacy.max_epsilon).reason == "budget"


def test_admit_upload__clipping_that_was_not_agreed(consortium, base):
    decision = _judge(consortium, base, clipping=ClipTrace(start=1.0, shares=(0.5, 0.5)))
    assert (decision.reason, decision.clip_norm) == ("mechanism", None)
    assert "fixed clipping is agreed" in decision.sentence


def test_admit_upload__study_without_noise_knows_no_epsilon(tmp_path):
    terms = PrivacyTerms(noise_multiplier=0, steps_per_round=2, delta=2.5e-3, max_epsilon=None)
    consortium = make_consortium(tmp_path, privacy=terms)
    base = read_weights(consortium.initial)
    honest = _judge(consortium, base, epsilon=None)
    assert (honest.reason, honest.epsilon) == ("ok", None)
    assert _judge(consortium, base, epsilon=1.0).reason == "epsilon"
    noised = terms.model_copy(update={"noise_multiplier": 1.0})
    assert _judge(consortium, base, privacy=noised, epsilon=1.0).epsilon is None
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, None, epsilon=None), "north")
    withheld = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    assert (withheld.reason, withheld.epsilon) == ("withheld", None)


def test_admit_upload__budget_counts_refused_releases(consortium, base):
    terms = consortium.study.privacy
    rounds = next(rounds for rounds in range(1, 500) if study_epsilon(terms, rounds + 1).pld > terms.max_epsilon)
    releases = {f"{index:064d}": terms for index in range(rounds)}
    decision = _judge(consortium, base, history=EarlierUploads(0, releases), epsilon=terms.max_epsilon)
    assert decision.reason == "budget"
    releases.popitem()
    assert _judge(consortium, base, history=EarlierUploads(0, releases), epsilon=terms.max_epsilon).reason == "ok"


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_admit_upload__too_little_noise(consortium, base, scale):
    tensors = {name: scale * tensor for name, tensor in consortium.update("north", 1, base).items()}
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    assert _judge(consortium, base, tensors=tensors).reason == "noise-floor"


@pytest.mark.parametrize(("scale", "reason"), [(1.0, "ok"), (0.5, "noise-floor"), (40.0, "norm-ceiling")])
def test_admit_upload__a_smaller_site_carries_more_noise(consortium, base, scale, reason):
    """South has half of north's patients, so twice its noise; each is measured by its own."""
    tensors = {name: np.float32(scale) * tensor for name, tensor in consortium.update("south", 1, base).items()}
    signed = consortium.sign_claim(consortium.claim("south", 1, base.digest, tensors), "south")
    open_round = OpenRound(1, base.digest, SHAPES)
    assert (
        admit_upload(consortium.study, "south", EarlierUploads(), open_round, 1, signed, save(tensors)).reason == reason
    )


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_admit_upload__a_thousand_honest_updates_are_all_accepted(tmp_path, mechanism):
    """Four steps, 2,000 weights, signals up to what clipping allows; the same with half the noise, or none, is refused.

    How little noise the floor lets through depends on the terms: `study_status` says it for each site.
    """
    privacy = PrivacyTerms(mechanism=mechanism, noise_multiplier=4.0, steps_per_round=4, delta=2.5e-3, max_epsilon=60.0)
    consortium = make_consortium(tmp_path, privacy=privacy)
    study, units, steps = consortium.study, consortium.study.units("north"), privacy.steps_per_round
    std = study.training.learning_rate * privacy.noise_multiplier / (privacy.sampling_rate * units)
    draw = np.random.default_rng(8)
    for number in range(1000):
        sample = draw.normal if mechanism == "gaussian" else draw.laplace  # of this scale, both
        noise = sample(0, std, (steps, 2000)).sum(axis=0)
        drawn = draw.binomial(units, privacy.sampling_rate, steps).sum()
        longest = study.training.learning_rate * drawn / (privacy.sampling_rate * units)
        direction = draw.normal(size=2000)
        signal = direction * (number % 3) / 2 * longest / np.linalg.norm(direction)
        assert _judged_alone(consortium, signal + noise) == "ok", number
        assert _judged_alone(consortium, signal + 0.5 * noise) == "noise-floor", number
        assert _judged_alone(consortium, signal) == "noise-floor", number


def _judged_alone(consortium, vector):
    tensors = {"head.weight": vector.astype(np.float32)}
    claim = consortium.claim("north", 1, "0" * 64, tensors)
    signed = consortium.sign_claim(claim, "north")
    open_round = OpenRound(1, "0" * 64, {"head.weight": vector.shape})
    return admit_upload(consortium.study, "north", EarlierUploads(), open_round, 1, signed, save(tensors)).reason


def test_admit_upload__the_study_may_set_a_lower_ceiling(tmp_path):
    consortium = make_consortium(tmp_path, admission={"max_update_norm": 0.1})
    assert _judge(consortium, read_weights(consortium.initial)).reason == "norm-ceiling"


def test_admit_upload__the_study_cannot_raise_the_ceiling_over_what_clipping_allows(tmp_path):
    consortium = make_consortium(tmp_path, admission={"max_update_norm": 1e6})
    base = read_weights(consortium.initial)
    tensors = {name: np.float32(50) * tensor for name, tensor in consortium.update("north", 1, base).items()}
    assert _judge(consortium, base, tensors=tensors).reason == "norm-ceiling"


def test_admit_upload__the_same_claim_in_other_bytes_is_malformed(consortium, base):
    tensors = consortium.update("north", 1, base)
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, tensors), "north")
    spaced = signed.replace(b'"round":1', b'"round": 1')
    twice = signed.replace(b'"round":1', b'"round":2,"round":1')
    unused_bits = signed.replace(b'=="', b'Q=="')[:-4] + b'=="}'
    for found in (spaced, twice, unused_bits):
        decision = admit_upload(
            consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, found, b""
        )
        assert decision.reason in ("malformed", "bad-signature")
        assert decision.released is None
    exact = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, save(tensors)
    )
    assert exact.reason == "ok"


def test_admit_upload__the_same_tensors_in_other_bytes_are_malformed(consortium, base):
    tensors = consortium.update("north", 1, base)
    update = save(tensors)
    length = int.from_bytes(update[:8], "little")
    header = json.dumps(json.loads(update[8 : 8 + length])).encode()
    spaced = len(header).to_bytes(8, "little") + header + update[8 + length :]
    assert load(spaced)["head.bias"].tolist() == tensors["head.bias"].tolist(), "it loads to the same"
    assert _judge(consortium, base, update=spaced).reason == "malformed"


def test_admit_upload__metadata_that_could_be_written_in_two_orders_is_malformed(consortium, base):
    """A file of one content must be one file, and safetensors writes several entries of metadata in any order."""
    tensors = consortium.update("north", 1, base)
    updates = [save(tensors, metadata={"first": "1", "second": str(number)}) for number in range(10)]
    assert {_judge(consortium, base, update=update).reason for update in updates} == {"malformed"}


def test_admit_upload__a_claim_too_large_is_not_parsed(consortium, base):
    signed = b"[" * (MAX_CLAIM_BYTES + 1)
    open_round = OpenRound(1, base.digest, SHAPES)
    assert admit_upload(consortium.study, "north", EarlierUploads(), open_round, 1, signed, b"").reason == "too-large"


def test_admit_upload__a_claim_of_no_update_in_particular_is_malformed(consortium, base):
    claim = consortium.claim("north", 1, base.digest, None, outcome="update")
    signed = consortium.sign_claim(claim, "north")
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    assert (decision.reason, decision.released) == ("malformed", None)


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 1e-3, "steps_per_round": 1000},
        {"noise_multiplier": 1e-300},
        {"noise_multiplier": 1e9},
        {"sampling_rate": 1e-9},
        {"steps_per_round": 21},  # two are agreed
        {"unit": "example", "examples_per_patient": 64},
    ],
)
def test_admit_upload__terms_beyond_computing_end_the_budget_at_once(consortium, base, change):
    """Composing these takes minutes to hours, or fails; a site may claim anything."""
    terms = PrivacyTerms.model_validate({**consortium.study.privacy.model_dump(), **change})
    start = time.monotonic()
    decision = _judge(consortium, base, privacy=terms)
    assert (decision.reason, decision.epsilon) == ("mechanism", None)
    assert time.monotonic() - start < 20
    assert _judge(consortium, base, history=EarlierUploads(0, {"0" * 64: terms})).reason == "budget"


def test_admit_upload__so_many_other_terms_end_the_budget(consortium, base):
    agreed = consortium.study.privacy
    others = [agreed.model_copy(update={"noise_multiplier": 2.0 + number / 8}) for number in range(1, 5)]
    releases = {f"{index:064d}": terms for index, terms in enumerate(others)}
    assert _judge(consortium, base, history=EarlierUploads(0, releases)).reason == "budget"
    releases.popitem()
    found = _judge(consortium, base, history=EarlierUploads(0, releases), epsilon=2.0)
    expected = compose([(round_event(terms), 1) for terms in (*others[:3], agreed)], agreed.delta).pld
    assert (found.reason, found.epsilon) == ("ok", pytest.approx(expected))


def test_admit_upload__a_sentence_is_readable_whatever_it_quotes(consortium, base):
    claim = consortium.claim("north", 1, base.digest, consortium.update("north", 1, base))
    signed = consortium.sign_claim(claim, "north").replace(
        b'"software"', b'"\\ud800\\u202e\\u0007' + b"x" * 2000 + b'"'
    )
    decision = admit_upload(
        consortium.study, "north", EarlierUploads(), OpenRound(1, base.digest, SHAPES), 1, signed, b""
    )
    named = _judge(consortium, base, tensors={"\u202e\u0007" + 100 * "\u00ef": np.zeros(1, np.float32)})
    for found, reason in ((decision, "malformed"), (named, "tensor-names")):
        assert found.reason == reason
        assert found.sentence.isascii()
        assert found.sentence.isprintable()
        assert len(found.sentence) <= 300


def test_admit_upload__too_long(consortium, base):
    tensors = {name: np.float32(50) * tensor for name, tensor in consortium.update("north", 1, base).items()}
    assert _judge(consortium, base, tensors=tensors).reason == "norm-ceiling"


@settings(max_examples=60, deadline=None)
@given(signed=st.binary(max_size=200), update=st.binary(max_size=200))
def test_admit_upload__never_raises_whatever_is_sent(consortium, base, signed, update):
    open_round = OpenRound(1, base.digest, SHAPES)
    assert (
        admit_upload(consortium.study, "north", EarlierUploads(), open_round, 1, signed, update).reason == "malformed"
    )
    honest = consortium.sign_claim(consortium.claim("north", 1, base.digest, {}), "north")
    assert (
        admit_upload(consortium.study, "north", EarlierUploads(), open_round, 1, honest, update).reason == "malformed"
    )
