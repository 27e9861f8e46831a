"""An update left out when its round closed, after a receipt that said "accepted": the site learns of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from consortium import Consortium, make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.state import StudyState
from fedcall.files import write_bytes
from fedcall.keys import read_signing_key
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.spending import round_spends
from fedcall.study.log_reading import read_log
from fedcall.weights import read_weights

SITES = {"east": 20, "north": 20, "south": 20}


@pytest.fixture
def closed(tmp_path) -> tuple[Consortium, StudyState]:
    """Return a study whose second round is open; south pointed away from the others in the first."""
    consortium = make_consortium(tmp_path, 3, SITES)
    key = read_signing_key(consortium.keys("coordinator"))
    state = StudyState(consortium.state, consortium.study, key, consortium.initial)
    base = read_weights(consortium.initial)
    learned = {name: np.sign(tensor) * np.float32(0.05) for name, tensor in base.tensors.items()}
    for site, sign in {"east": 1, "north": 1, "south": -1}.items():
        noise = consortium.update(site, 1, base)
        update = {name: np.float32(sign) * learned[name] + tensor for name, tensor in noise.items()}
        claim = consortium.sign_claim(consortium.claim(site, 1, base.digest, update), site)
        write_bytes(rounds(consortium, site) / "1/claim.json", claim)
        write_bytes(rounds(consortium, site) / "1/receipt.json", state.answer(site, 1, claim, save(update)))
    assert state.close_round_if_due()
    return consortium, state


def rounds(consortium: Consortium, site: str) -> Path:
    return consortium.folder / "results" / site / "rounds"


@pytest.mark.parametrize(
    ("site", "status", "reason"), [("south", "quarantined", "outlier"), ("north", "accepted", "ok")]
)
def test_read_rounds__with_the_log_tells_what_came_after_the_receipt(closed, site, status, reason):
    consortium, state = closed
    log = consortium.folder / "admission.jsonl"
    log.write_bytes(state.extract(site))
    receipt = json.loads((rounds(consortium, site) / "1/receipt.json").read_text())["body"]
    assert receipt["status"] == "accepted"
    spends = {}
    for name, given in (("receipts alone", None), ("with the log", log)):
        records = read_rounds(consortium.study, site, rounds(consortium, site), read_log(given) if given else None)
        spends[name] = round_spends(consortium.study, records, [1])[0]
    assert (spends["receipts alone"].status, spends["receipts alone"].reason) == ("accepted", "ok")
    assert (spends["with the log"].status, spends["with the log"].reason) == (status, reason)
    assert ("points away" in spends["with the log"].sentence) == (site == "south")
    assert spends["with the log"].epsilon_pld == spends["receipts alone"].epsilon_pld, "it was released, so it is spent"


def test_read_rounds__receipt_that_is_not_in_the_log(closed):
    consortium, state = closed
    log = consortium.folder / "admission.jsonl"
    log.write_bytes(state.extract("south").splitlines(keepends=True)[0])
    with pytest.raises(FedcallError, match="is not in this log"):
        read_rounds(consortium.study, "south", rounds(consortium, "south"), read_log(log))
