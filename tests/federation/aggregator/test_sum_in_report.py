"""What a site's report says of masked rounds: who was in the sum, verified; void rounds; a log tampered with."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import read_signed, read_unverified, verify, write_signed
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.state import StudyState
from fedcall.files import write_bytes
from fedcall.keys import read_signing_key
from fedcall.reporting.privacy.checklist import trust
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.spending import round_spends
from fedcall.study.admission_log import AdmissionLog, Opened, Ordered
from fedcall.study.claims import Receipt
from fedcall.study.log_reading import log_rows, read_log
from fedcall.study.opened_sums import own_update, verify_sum
from fedcall.study.sum_orders import SumOrder
from fedcall.weights import read_weights
from masked_consortium import MaskedConsortium, make_masked_consortium

SITES = ("east", "north", "south")


@pytest.fixture
def played(tmp_path) -> tuple[MaskedConsortium, StudyState]:
    """Return a study of which the first round was opened and the second is void."""
    consortium = make_masked_consortium(tmp_path, rounds=3)
    state = consortium.open_state()
    for number, factor in ((1, 1), (2, 10_000)):
        base = read_weights(state.model_path(number))
        for site in SITES:
            vector = {name: tensor * np.int32(factor) for name, tensor in consortium.vector(site, number, base).items()}
            claim, update = consortium.answer(site, number, base, vector=vector)
            write_bytes(rounds(consortium, site) / f"{number}/claim.json", claim)
            write_bytes(rounds(consortium, site) / f"{number}/receipt.json", state.answer(site, number, claim, update))
        state.close_round_if_due()
        consortium.ask_helpers(state)
        assert state.close_round_if_due()
    return consortium, state


def rounds(consortium: MaskedConsortium, site: str) -> Path:
    return consortium.folder / "results" / site / "rounds"


def coordinator(consortium: MaskedConsortium) -> Ed25519PrivateKey:
    return read_signing_key(consortium.keys("coordinator"))


def test_read_rounds__tells_who_was_in_the_sum_and_which_rounds_are_void(played, tmp_path):
    consortium, state = played
    (tmp_path / "log").write_bytes(state.extract("north"))
    records = read_rounds(consortium.study, "north", rounds(consortium, "north"), read_log(tmp_path / "log"))
    assert [record.summed for record in records] == [SITES, SITES]
    assert [record.void is None for record in records] == [True, False]
    rows = round_spends(consortium.study, records, [1, 2])
    assert [(row.status, row.charged) for row in rows] == [("accepted", True), ("void", True)]
    assert "Opened only as a sum with east, south" in rows[0].sentence
    assert "stays charged" in rows[1].sentence
    without = read_rounds(consortium.study, "north", rounds(consortium, "north"))
    assert [record.summed for record in without] == [None, None]


@pytest.mark.parametrize("fault", ["no sum", "another order", "another update", "no helper"])
def test_read_rounds__a_sum_that_the_helpers_did_not_sign_is_refused(played, tmp_path, fault):
    """The coordinator writes its log as it likes; a site sees through it without asking anybody."""
    consortium, state = played
    forged = AdmissionLog(tmp_path / "forged.jsonl")
    for line in state.log.log.lines[:6]:
        entry = line.entry
        if isinstance(entry, Ordered):
            if fault == "no sum":
                continue
            order = read_unverified(entry.order.encode(), SumOrder)[0]
            if fault == "another order":
                order = order.model_copy(update={"base": "0" * 64})
            if fault == "another update":
                listed = [one.model_copy(update={"update": "0" * 64}) for one in order.updates]
                order = order.model_copy(update={"updates": tuple(listed)})
            entry = entry.model_copy(update={"order": consortium.sign_as_coordinator(order).decode()})
        if isinstance(entry, Opened) and fault == "no helper":
            entry = entry.model_copy(update={"masks": ()})
        forged.append(entry, line.seconds)
    folder = rounds(consortium, "north")
    for number in (1, 2):
        (folder / f"{number}/receipt.json").unlink()  # its head would tell already
    with pytest.raises(FedcallError, match=r"without a sum|another order"):
        read_rounds(consortium.study, "north", folder, read_log(tmp_path / "forged.jsonl"))


def test_receipt__of_a_closed_round_lets_a_site_verify_who_was_in_the_sum(played):
    """From its own receipts alone, with the keys that the study names; the aggregator's log is not needed."""
    consortium, state = played
    folder, study = rounds(consortium, "north"), consortium.study
    first = read_signed(folder / "1/receipt.json", Receipt, study.coordinator)
    assert first.opened is None, "given before the round was closed"
    claim, update = consortium.answer("north", 1, read_weights(state.model_path(1)))
    assert claim == (folder / "1/claim.json").read_bytes()
    again = state.answer("north", 1, claim, update)
    receipt = verify(again, Receipt, study.coordinator)
    order = verify_sum(study, 1, receipt.opened)
    assert order.sites == SITES
    assert own_update(order, "north").claim == receipt.claim
    assert receipt.model_copy(update={"opened": None}) == first, "nothing else of it changed"
    (folder / "1/receipt.json").write_bytes(again)
    assert [record.summed for record in read_rounds(study, "north", folder)] == [SITES, None]
    assert state.answer("north", 1, claim, update) == consortium.open_state().answer("north", 1, claim, update) == again


def test_read_rounds__a_receipt_whose_sum_the_helper_did_not_sign_is_refused(played):
    consortium, state = played
    folder = rounds(consortium, "north")
    claim, update = consortium.answer("north", 1, read_weights(state.model_path(1)))
    receipt = verify(state.answer("north", 1, claim, update), Receipt, consortium.study.coordinator)
    order = read_unverified(receipt.opened.order.encode(), SumOrder)[0]
    fewer = order.model_copy(update={"updates": order.updates[:2]})
    other = order.model_copy(update={"base": "0" * 64})
    for forged, match in ((fewer, "no fewer than 3"), (other, "another order")):
        opened = receipt.opened.model_copy(update={"order": consortium.sign_as_coordinator(forged).decode()})
        write_signed(folder / "1/receipt.json", receipt.model_copy(update={"opened": opened}), coordinator(consortium))
        with pytest.raises(FedcallError, match=match):
            read_rounds(consortium.study, "north", folder)


def test_receipt__of_an_older_version_keeps_its_form(played):
    consortium, _ = played
    receipt = read_signed(rounds(consortium, "north") / "1/receipt.json", Receipt, consortium.study.coordinator)
    assert "opened" not in receipt.model_dump(mode="json")


def test_read_rounds__an_empty_log_is_no_log_to_trust(played):
    consortium, _ = played
    with pytest.raises(FedcallError, match="is not in this log"):
        read_rounds(consortium.study, "north", rounds(consortium, "north"), [])


def test_trust__names_helpers_what_is_off_and_what_invented_hospitals_would_see(played):
    consortium, _ = played
    said = json.dumps([statement.model_dump() for statement in trust(consortium.study)])
    for words in ("notary", "are its inventions", "Checks of single updates are off", "over at least 3 sites"):
        assert words in said


def test_log_rows__say_what_was_ordered_and_what_was_void(played):
    _, state = played
    words = [row["what"] for row in log_rows(state.log.log.lines)]
    assert "round 1 closed, its sum ordered over: east, north, south" in words
    assert any("averaged: nobody; round 2 is void" in sentence for sentence in words)
