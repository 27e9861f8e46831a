"""The sum of a round of masked updates: exact, ordered once, opened with all helpers, void if it cannot be honest."""

import json

import numpy as np
import pytest

from fedcall.documents import sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.aggregator.operation import refusals, study_status
from fedcall.keys import read_signing_key
from fedcall.study.admission_log import Ordered
from fedcall.study.claims import Receipt
from fedcall.study.opening import RoundOpening
from fedcall.study.sum_orders import MaskSum, SumOrder, check_opening
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights
from masked_consortium import make_masked_consortium


@pytest.fixture
def consortium(tmp_path):
    return make_masked_consortium(tmp_path, helpers=("notary", "ethics"), admission={"max_refusals": 2})


def test_close__the_model_is_the_one_that_addition_in_the_clear_gives(consortium):
    state = consortium.open_state()
    for number in (1, 2):
        base = read_weights(state.model_path(number))
        total = consortium.total(number, base)
        consortium.play_round(state, number)
        study = consortium.study
        layout = SumLayout.of({name: base.tensors[name].shape for name in total})
        clear = mean_update(study, layout, layout.flatten(total), [site.name for site in study.sites])
        expected = apply_update(base.tensors, clear, study.aggregation).tensors
        found = read_weights(state.model_path(number + 1)).tensors
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert not np.array_equal(found["head.bias"], base.tensors["head.bias"])
    assert state.is_done


def test_close__no_single_vector_lies_anywhere(consortium):
    """Nothing in the aggregator's state, and nothing its operator is shown, holds a vector or a part of one."""
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    consortium.play_round(state, 1)
    pieces = [consortium.vector(site, 1, base)["head.weight"][0].tobytes() for site in ("east", "north", "south")]
    contents = [path.read_bytes() for path in consortium.state.rglob("*") if path.is_file()]
    assert any(consortium.answer("north", 1, base)[1] == content for content in contents)  # the masked one is there
    assert not any(piece in content for piece in pieces for content in contents)
    told = json.dumps(study_status(consortium.state)) + json.dumps(refusals(consortium.state))
    assert "norm" not in told
    assert [site["noise_floor"] for site in json.loads(json.dumps(study_status(consortium.state)))["sites"]] == [
        None
    ] * 3


def test_order__is_in_the_log_before_a_helper_hears_of_it_and_takes_no_more_updates(consortium):
    lenient = make_masked_consortium(
        consortium.folder / "four",
        patients={"east": 20, "north": 40, "south": 20, "west": 20},
        aggregation={"minimum_sites": 3, "deadline_minutes": 1e-6},
    )
    state = lenient.open_state()
    base = read_weights(state.model_path(1))
    lenient.upload_all(state, 1, ["east", "north", "south"])
    assert not state.close_round_if_due()
    ordered = [line.entry for line in state.log.log.lines if isinstance(line.entry, Ordered)]
    assert verify(ordered[0].order.encode(), SumOrder, lenient.study.coordinator).sites == ("east", "north", "south")
    receipt = verify(state.answer("west", 1, *lenient.answer("west", 1, base)), Receipt, lenient.study.coordinator)
    assert (receipt.status, receipt.reason) == ("rejected", "late")
    assert "its sum is ordered" in state.stand_down("west", 1)
    again = lenient.open_state()
    assert again.sums.pending("notary") == state.sums.pending("notary")


def test_close__waits_for_every_helper_and_says_so(consortium):
    state = consortium.open_state()
    consortium.upload_all(state, 1)
    assert not state.close_round_if_due()
    assert state.waiting_for() == ["helper notary", "helper ethics"]
    given = consortium.desk("notary").answer(*state.sums.pending("notary"), 1)
    state.sums.take("notary", given.statement, given.masks)
    state.sums.take("notary", given.statement, given.masks)  # a repeated message changes nothing
    assert not state.close_round_if_due()
    assert state.waiting_for() == ["helper ethics"]
    assert [helper["answered"] for helper in study_status(consortium.state)["helpers"]] == [True, False]
    again = consortium.open_state()  # the aggregator was killed in between
    consortium.ask_helpers(again)
    assert again.close_round_if_due()
    assert again.log.openings[2].accepted == ("east", "north", "south")


def test_take__refuses_other_masks_other_orders_and_strangers(consortium):
    state = consortium.open_state()
    consortium.upload_all(state, 1)
    state.close_round_if_due()
    given = consortium.desk("notary").answer(*state.sums.pending("notary"), 1)
    changed = bytearray(given.masks)
    changed[0] ^= 1
    with pytest.raises(FedcallError, match="not those that its answer names"):
        state.sums.take("notary", given.statement, bytes(changed))
    with pytest.raises(FedcallError, match="not those that its answer names"):
        state.sums.take("notary", given.statement, given.masks[:-4])
    with pytest.raises(FedcallError, match="signed by another key"):
        state.sums.take("ethics", given.statement, given.masks)
    with pytest.raises(FedcallError, match="no helper"):
        state.sums.take("north", given.statement, given.masks)
    key = read_signing_key(consortium.keys("notary"))
    statement = verify(given.statement, MaskSum, consortium.study.protection.helpers[0].public_key)
    for change in ({"order": "0" * 64}, {"round": 2}, {"masks": None}, {"masks": None, "unopened": ("west",)}):
        with pytest.raises(FedcallError):
            state.sums.take("notary", sign(statement.model_copy(update=change), key), given.masks)
    assert not state.close_round_if_due()
    state.sums.take("notary", given.statement, given.masks)
    other = sign(statement.model_copy(update={"entries": 7}), key)
    with pytest.raises(FedcallError, match="another answer"):
        state.sums.take("notary", other, given.masks)


@pytest.mark.parametrize(("factor", "word"), [(0, "below"), (10_000, "above")])
def test_close__a_sum_that_cannot_be_honest_voids_the_round_and_everybody_is_told(consortium, factor, word):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    for site in ("east", "north", "south"):
        vector = {name: tensor * np.int32(factor) for name, tensor in consortium.vector(site, 1, base).items()}
        state.answer(site, 1, *consortium.answer(site, 1, base, vector=vector))
    state.close_round_if_due()
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    opening = verify(state.opening(2), RoundOpening, consortium.study.coordinator)
    assert opening.accepted == ()
    assert word in opening.void
    assert read_weights(state.model_path(2)).digest == base.digest
    for site in ("east", "north", "south"):
        assert word in state.extract(site).decode()
        assert len(state.log.site(site).releases) == 1  # it stays charged
    consortium.play_round(state, 2)
    assert state.log.openings[3].void is None


def test_close__too_few_updates_are_never_opened(tmp_path):
    consortium = make_masked_consortium(tmp_path, patients={"east": 20, "north": 40, "south": 20, "west": 20})
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    consortium.upload_all(state, 1, ["east", "north"])
    for site in ("south", "west"):
        claim = consortium.claim(site, 1, base.digest, None)
        state.answer(site, 1, consortium.sign_claim(claim, site), b"")
    assert state.close_round_if_due()
    assert state.sums.pending("notary") is None
    assert 1 not in state.log.ordered
    assert "2 updates, a sum has no fewer than 3" in state.log.openings[2].void


def test_close__a_seed_that_does_not_open_voids_the_round_and_sets_its_site_aside(consortium):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    consortium.upload_all(state, 1, ["east", "north"])
    signed, _ = consortium.answer("south", 1, base)
    envelope = json.loads(signed)["body"]["envelope"]
    envelope["seeds"][1]["seed"] = "A" * len(envelope["seeds"][1]["seed"])
    state.answer("south", 1, *consortium.answer("south", 1, base, envelope=envelope))
    state.close_round_if_due()
    consortium.ask_helpers(state)
    assert state.close_round_if_due()
    opened = state.log.openings[2]
    assert (opened.accepted, [one.site for one in opened.outliers]) == ((), ["south"])
    assert "south" in opened.void
    assert state.log.site("south").is_quarantined


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"envelope": None}, "mechanism"),
        ({"values": 5}, "malformed"),
        ({"helper": "notary2"}, "malformed"),
        ({"seed": "AAAA"}, "malformed"),
        ({"one seed": True}, "malformed"),
    ],
)
def test_judge__an_envelope_that_is_not_the_studys_is_refused(consortium, change, reason):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    envelope = json.loads(consortium.answer("north", 1, base)[0])["body"]["envelope"]
    if change == {"envelope": None}:
        envelope = None
    elif "values" in change:
        envelope |= change
    elif "one seed" in change:
        envelope["seeds"] = envelope["seeds"][:1]
    else:
        envelope["seeds"][0] |= change
    answer = state.answer("north", 1, *consortium.answer("north", 1, base, envelope=envelope))
    receipt = verify(answer, Receipt, consortium.study.coordinator)
    assert (receipt.status, receipt.reason) == ("rejected", reason)


def test_judge__an_update_in_the_clear_is_refused(consortium):
    state = consortium.open_state()
    base = read_weights(state.model_path(1))
    from fedcall.weights import weights_bytes

    floats = {name: tensor.astype(np.float32) for name, tensor in consortium.vector("north", 1, base).items()}
    claim = consortium.claim("north", 1, base.digest, floats)
    receipt = verify(
        state.answer("north", 1, consortium.sign_claim(claim, "north"), weights_bytes(floats, {})),
        Receipt,
        consortium.study.coordinator,
    )
    assert (receipt.status, receipt.reason) == ("rejected", "tensor-dtype")


def test_check_opening__a_site_verifies_from_its_log_who_was_in_the_sum(consortium):
    state = consortium.open_state()
    consortium.play_round(state, 1)
    study = consortium.study
    order, masks = state.log.ordered[1].order, state.log.openings[2].masks
    assert check_opening(study, 1, order, masks).sites == ("east", "north", "south")
    for bad in ((order, masks[:1]), (order, masks[::-1]), (order.replace('"round":1', '"round":2'), masks)):
        with pytest.raises(FedcallError):
            check_opening(study, 1, *bad)
    found = verify(order.encode(), SumOrder, study.coordinator)
    for updates in (found.updates[:2], found.updates[1:]):
        fewer = consortium.sign_as_coordinator(found.model_copy(update={"updates": updates})).decode()
        with pytest.raises(FedcallError, match="no fewer than 3"):
            check_opening(study, 1, fewer, masks)
