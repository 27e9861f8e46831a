"""What an operator and an auditor type: quarantine list, show, add, release; the log shown, and held to receipts."""

import json
from functools import partial

import pytest
from safetensors.numpy import save

from consortium import make_consortium
from fedcall.federation.aggregator.state import StudyState
from fedcall.keys import read_signing_key
from fedcall.weights import read_weights
from hostile_text import HOSTILE
from in_process import run_in_process


@pytest.fixture
def consortium(tmp_path):
    """Two sites; the first round closed, with south's epsilon understated."""
    consortium = make_consortium(tmp_path)
    key = read_signing_key(consortium.keys("coordinator"))
    state = StudyState(consortium.state, consortium.study, key, consortium.initial)
    base = read_weights(consortium.initial)
    for site, changes in (("north", {}), ("south", {"epsilon": 0.001})):
        tensors = consortium.update(site, 1, base)
        claim = consortium.claim(site, 1, base.digest, tensors, **changes)
        receipt = state.answer(site, 1, consortium.sign_claim(claim, site), save(tensors))
        folder = tmp_path / "rounds" / site / "1"
        folder.mkdir(parents=True)
        (folder / "receipt.json").write_bytes(receipt)
    assert state.close_round_if_due()
    (tmp_path / "north.jsonl").write_bytes(state.extract("north"))
    return consortium


@pytest.fixture
def fedcall(capsys, monkeypatch):
    return partial(run_in_process, monkeypatch, capsys)


def test_quarantine__list_show_add_release(consortium, fedcall):
    state = ("--state", consortium.state)
    code, out, _ = fedcall("quarantine", "list", *state)
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "epsilon" in out
    assert "quarantined sites: none" in out
    listed = json.loads(fedcall("quarantine", "list", *state, "--json")[1])
    assert [row["reason"] for row in listed["refused"]] == ["epsilon"]

    shown = fedcall("quarantine", "show", listed["refused"][0]["id"], *state)[1]
    assert "the claim says epsilon 0.001" in shown
    assert "update.safetensors" in shown
    code, _, error = fedcall("quarantine", "show", "nothing", *state)
    assert (code, len(error.splitlines())) == (2, 1)

    added = fedcall("quarantine", "add", "south", *state, "--reason", "does not answer", "--operator", "mia")
    assert added[0] == 0
    listed = json.loads(fedcall("quarantine", "list", *state, "--json")[1])
    assert listed["quarantined_sites"] == ["south"]
    assert (listed["interventions"][0]["operator"], listed["interventions"][0]["reason"]) == ("mia", "does not answer")
    assert fedcall("quarantine", "release", "south", *state, "--reason", " ")[0] == 2
    assert fedcall("quarantine", "release", "south", *state, "--reason", "answers again")[0] == 0
    assert fedcall("quarantine", "release", "south", *state, "--reason", "answers again")[0] == 2
    history = json.loads(fedcall("quarantine", "list", *state, "--json")[1])["interventions"]
    assert [row["action"] for row in history] == ["set-aside", "released"]
    assert "@" in history[1]["operator"]


def test_views__a_hostile_reason_writes_no_line_of_its_own(consortium, fedcall):
    state = ("--state", consortium.state)
    without_nul = HOSTILE.replace("\0", "").replace("\ud800", "")  # a shell passes neither
    assert fedcall("quarantine", "add", "south", *state, "--reason", without_nul, "--operator", without_nul)[0] == 0
    close = ("aggregator", "close", *state, "--reason", without_nul, "--operator", without_nul)
    assert fedcall(*close)[0] == 0
    for view in (
        ("quarantine", "list"),
        ("quarantine", "list", "--json"),
        ("aggregator", "log", "show"),
        ("aggregator", "log", "show", "--json"),
        ("aggregator", "status"),
        ("aggregator", "status", "--json"),
    ):
        code, out, _ = fedcall(*view, *state)
        assert code == 0
        assert {one for one in out if not one.isprintable()} <= {"\n"}, view
        assert not any(line.startswith("2026-01-01 00:00 site south") for line in out.splitlines()), view
        assert "--json" in view or len(out) < 8_000, view
    unknown = fedcall("quarantine", "show", f"no\x1b[2J\r\n{HOSTILE}", *state)[2]
    assert unknown.count("\n") == 1
    assert unknown.endswith(f"see: fedcall quarantine list --state {state[-1]}\n"), "a command to copy, whole"
    code, _, error = fedcall("quarantine", f"no\x1b[2J\u202e{'x' * 9000}")
    assert code == 2
    assert "\x1b[2J" not in error
    assert "\u202e" not in error


def test_log__show_and_verify(consortium, fedcall):
    code, out, _ = fedcall("aggregator", "log", "verify", "--state", consortium.state)
    assert (code, "4 lines, one chain" in out) == (0, True)
    out = fedcall("aggregator", "log", "show", "--state", consortium.state)[1]
    assert "south round 1 rejected (epsilon)" in out
    assert "round 2 opened, averaged: north" in out

    extract = ("--log", consortium.folder / "north.jsonl")
    out = fedcall("aggregator", "log", "show", *extract)[1]
    assert "another site's entry" in out
    assert "epsilon 0.001" not in out
    own = ("--study", consortium.study_path, "--site", "north", "--rounds", consortium.folder / "rounds" / "north")
    code, out, _ = fedcall("aggregator", "log", "verify", *extract, *own)
    assert (code, "1 receipts of site 'north', all in the log" in out) == (0, True)
    assert fedcall("aggregator", "log", "verify", *extract, *own[:2])[0] == 2
    assert fedcall("aggregator", "log", "verify")[0] == 2

    path = consortium.folder / "north.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"status":"accepted"', b'"status":"rejected"'))
    code, _, error = fedcall("aggregator", "log", "verify", *extract)
    assert (code, "north.jsonl:2: this line does not continue the chain" in error) == (2, True)
