"""What a site's report says of masked rounds: who was in the sum, verified; void rounds; a log tampered with."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.state import StudyState
from fedcall.files import write_bytes
from fedcall.reporting.privacy.checklist import trust
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.spending import round_spends
from fedcall.study.admission_log import AdmissionLog, Opened, Ordered
from fedcall.study.log_reading import log_rows
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


def test_read_rounds__tells_who_was_in_the_sum_and_which_rounds_are_void(played, tmp_path):
    consortium, state = played
    (tmp_path / "log").write_bytes(state.extract("north"))
    records = read_rounds(consortium.study, "north", rounds(consortium, "north"), tmp_path / "log")
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
        read_rounds(consortium.study, "north", folder, tmp_path / "forged.jsonl")


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
