"""The aggregator's state: rounds open and close, answers stay the same, a kill loses nothing."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from consortium import make_consortium
from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator import admission
from fedcall.federation.aggregator.operation import refusal, refusals, release_site, study_status
from fedcall.federation.aggregator.state import StudyState
from fedcall.keys import read_signing_key
from fedcall.privacy.accounting.epsilon import compose, study_epsilon
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Receipt
from fedcall.weights import read_weights


@pytest.fixture
def consortium(tmp_path):
    return make_consortium(tmp_path, rounds=2, admission={"max_refusals": 2})


def _state(consortium):
    key = read_signing_key(consortium.keys("coordinator"))
    return StudyState(consortium.state, consortium.study, key, consortium.initial)


def _answer(consortium, state, site, number=1, claim_changes=None):
    base = read_weights(state.model_path(min(number, state.log.open_round)))
    tensors = consortium.update(site, number, base)
    claim = consortium.claim(site, number, base.digest, tensors, **(claim_changes or {}))
    signed = state.answer(site, number, consortium.sign_claim(claim, site), save(tensors))
    return signed, verify(signed, Receipt, consortium.study.coordinator)


def test_study_state__round_closes_with_the_weighted_average(consortium):
    state = _state(consortium)
    base = read_weights(state.model_path(1))
    _answer(consortium, state, "south")
    assert not state.close_round_if_due()
    assert state.waiting_for() == ["north"]
    _answer(consortium, state, "north")
    assert state.close_round_if_due()
    found = read_weights(state.model_path(2)).tensors
    north, south = consortium.update("north", 1, base), consortium.update("south", 1, base)
    for name, tensor in base.tensors.items():
        expected = tensor + (40 * north[name].astype(np.float64) + 20 * south[name]) / 60
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


def test_study_state__same_upload_same_receipt(consortium):
    state = _state(consortium)
    first, receipt = _answer(consortium, state, "north")
    assert (receipt.status, receipt.accepted_rounds) == ("accepted", 1)
    assert _answer(consortium, state, "north")[0] == first
    _answer(consortium, state, "south")
    state.close_round_if_due()
    assert _answer(consortium, _state(consortium), "north")[0] == first, "also after a restart, also when it is closed"


def test_study_state__prepared_before_a_site_comes(tmp_path, monkeypatch):
    """Composing a privacy loss takes seconds the first time; a site that uploads must not wait for it, in any round."""
    terms = PrivacyTerms(noise_multiplier=2.0625, steps_per_round=2, delta=2.5e-3, max_epsilon=3.0)  # of no other test
    consortium = make_consortium(tmp_path, rounds=2, privacy=terms)
    answers = [(site, number) for number in (1, 2) for site in ("north", "south")]
    state = _state(consortium)
    claimed = {number: study_epsilon(terms, number).pld for number in (1, 2)}
    composed = []
    monkeypatch.setattr(admission, "compose", lambda *events: composed.append(events) or compose(*events))
    state.prepare()
    for site, number in answers:
        before = len(composed)
        assert _answer(consortium, state, site, number, {"epsilon": claimed[number]})[1].status == "accepted"
        assert len(composed) == before, f"{site} waited in round {number}"
        state.close_round_if_due()
    assert len(composed) == 2, "once for each round, whatever the number of sites"


def test_study_state__second_answer_does_not_replace_the_first(consortium):
    state = _state(consortium)
    _answer(consortium, state, "north")
    _, receipt = _answer(consortium, state, "north", claim_changes={"software": "other"})
    assert (receipt.status, receipt.reason) == ("rejected", "replay")
    _answer(consortium, state, "south")
    state.close_round_if_due()
    assert state.log.openings[2].accepted == ("north", "south")


def test_study_state__takes_up_after_every_lost_file(consortium):
    state = _state(consortium)
    _answer(consortium, state, "north")
    _answer(consortium, state, "south")
    state.close_round_if_due()
    opening, model = state.opening(2), state.model_path(2).read_bytes()
    for path in (*consortium.state.rglob("opening.json"), *consortium.state.rglob("receipts/*.json")):
        path.unlink()
    again = _state(consortium)
    assert (again.log.open_round, again.opening(2), again.model_path(2).read_bytes()) == (2, opening, model)
    assert len(list(consortium.state.rglob("receipts/*.json"))) == 2
    assert len(list(consortium.state.rglob("opening.json"))) == 2


def test_study_state__killed_between_model_and_log(consortium):
    state = _state(consortium)
    _answer(consortium, state, "north")
    _answer(consortium, state, "south")
    log = (consortium.state / "admission.jsonl").read_bytes()
    state.close_round_if_due()
    model = state.model_path(2).read_bytes()
    (consortium.state / "admission.jsonl").write_bytes(log)  # the rename that opens round 2 never happened
    again = _state(consortium)
    assert again.log.open_round == 1
    assert again.close_round_if_due()
    assert again.model_path(2).read_bytes() == model


def test_study_state__refusals_quarantine_a_site_until_released(consortium):
    state = _state(consortium)
    _, first = _answer(consortium, state, "north", claim_changes={"epsilon": 0.001})
    _, second = _answer(consortium, state, "north", claim_changes={"epsilon": 0.002})
    assert [(first.status, first.reason), (second.status, second.reason)] == [
        ("rejected", "epsilon"),
        ("quarantined", "replay"),
    ]
    assert "quarantine" in second.sentence
    _answer(consortium, state, "south")
    assert state.close_round_if_due(), "nobody waits for a quarantined site"
    assert state.log.openings[2].accepted == ("south",)
    assert _answer(consortium, state, "north", 2)[1].reason == "site-quarantined"

    rows = refusals(consortium.state)
    assert [row["reason"] for row in rows] == ["epsilon", "replay", "site-quarantined"]
    assert refusal(consortium.state, rows[0]["id"])["claim"]["epsilon"] == 0.001
    release_site(consortium.state, "north", "clipping mended")
    state.close_round_if_due()  # takes in what the operator appended
    assert not study_status(consortium.state)["sites"][0]["quarantined"]
    with pytest.raises(FedcallError, match="not quarantined"):
        release_site(consortium.state, "north", "again")


def test_study_state__withheld_answers_leave_the_model_as_it_is(consortium):
    state = _state(consortium)
    base = read_weights(state.model_path(1)).digest
    for site in ("north", "south"):
        signed = consortium.sign_claim(consortium.claim(site, 1, base, None), site)
        receipt = verify(state.answer(site, 1, signed, b""), Receipt, consortium.study.coordinator)
        assert (receipt.status, receipt.epsilon) == ("withheld", 0.0)
    assert state.close_round_if_due()
    assert read_weights(state.model_path(2)).digest == base


def test_study_state__deadline_closes_without_the_missing(tmp_path):
    consortium = make_consortium(tmp_path, aggregation={"deadline_minutes": 1e-9, "minimum_sites": 1})
    state = _state(consortium)
    assert not state.close_round_if_due(), "nobody has answered"
    _answer(consortium, state, "north")
    state.log.opened_at -= 1
    assert state.close_round_if_due()
    assert state.log.openings[2].accepted == ("north",)
    _, receipt = _answer(consortium, state, "south", 1, {"base": read_weights(state.model_path(1)).digest})
    assert (receipt.status, receipt.reason) == ("rejected", "late")
    assert not state.log.site("south").refusals_in_a_row


def test_study_state__another_study_in_the_folder(consortium, tmp_path):
    _state(consortium)
    other = make_consortium(tmp_path / "other", rounds=3)
    with pytest.raises(FedcallError, match="another study"):
        StudyState(consortium.state, other.study, read_signing_key(other.keys("coordinator")), other.initial)


def test_admission_log__edited_line_is_named(consortium):
    state = _state(consortium)
    _answer(consortium, state, "north", claim_changes={"epsilon": 0.001})
    path = consortium.state / "admission.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    entry = json.loads(lines[1])
    entry["entry"]["status"] = "accepted"
    path.write_text(lines[0] + json.dumps(entry) + "\n")
    with pytest.raises(FedcallError, match=r"admission\.jsonl:2"):
        _state(consortium)
