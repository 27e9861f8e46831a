"""Whoever takes the consent back contributes nothing from then on, without a word to anybody outside."""

from dataclasses import replace

import pytest

from fedcall.errors import PrivacyRefusal
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.privacy.ledger.summary import summarise

SECRET = bytes(range(32))
EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=2.0, sampling_rate=1.0, steps=4)
REQUEST = ReleaseRequest("a" * 64, "north", 1, EVENT, 1e-3, 20.0, ("Ann", "Bob", "Cyd"), "f" * 64)
WITHOUT_ANN = replace(REQUEST, patients=("Bob", "Cyd"), inputs="e" * 64)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite", SECRET) as opened:
        yield opened


def test_withdraw__contributes_nothing_from_then_on_whatever_the_sheet_says(ledger):
    ledger.reserve(REQUEST)
    assert ledger.withdraw("Ann") == [("a" * 64, 1)]
    later = ledger.reserve(replace(REQUEST, round=2))
    assert later.charged == {"Bob", "Cyd"}
    renamed = ledger.reserve(replace(REQUEST, study="b" * 64, patients=(Member("scan9", "Ann"), Member("d", "Dan"))))
    assert renamed.charged == {"d"}


def test_withdraw__the_answer_is_the_same_with_and_without(ledger, tmp_path):
    """Nothing of an answer but `charged`, which stays at the site, tells of a withdrawal (the head is a digest)."""
    with Ledger.open(tmp_path / "other.sqlite", SECRET) as other:
        ledger.withdraw("Ann")
        answers = [replace(one.reserve(REQUEST), charged=frozenset(), head="") for one in (ledger, other)]
    assert answers[0] == answers[1]


def test_withdraw__what_was_spent_stays_spent(ledger):
    ledger.reserve(REQUEST)
    ledger.withdraw("Ann")
    assert ledger.epsilon(["Ann"], 1e-3, "patient").pld == compose([(EVENT, 1)], 1e-3).pld
    assert ledger.withdraw("Ann") == [("a" * 64, 1)]
    assert [row.kind for row in ledger.rows()] == ["reserve", "withdraw"], "a second time it changes nothing"
    assert ledger.verify() is None
    assert [one.state for one in summarise(ledger).rounds] == ["reserved"]


def test_withdraw__a_release_comes_back_without_the_row_of_the_sheet(ledger):
    ledger.reserve(REQUEST)
    ledger.release(REQUEST, b"update")
    with pytest.raises(PrivacyRefusal, match="was charged for other inputs"):
        ledger.reserve(WITHOUT_ANN)
    ledger.withdraw("Ann")
    answer = ledger.reserve(WITHOUT_ANN)
    assert answer.state == "released"
    assert answer.artefact.read_bytes() == b"update"
    with pytest.raises(PrivacyRefusal, match=r"different: inputs, cohort"):
        ledger.reserve(replace(WITHOUT_ANN, patients=("Bob",)))  # Cyd is missing, and has not withdrawn
    with pytest.raises(PrivacyRefusal, match="was charged for other inputs"):
        ledger.reserve(replace(WITHOUT_ANN, patients=("Bob", "Cyd", "Dan")))


def test_withdraw__a_charged_round_is_trained_without_and_released_once(ledger):
    ledger.reserve(REQUEST)
    ledger.withdraw("Ann")
    assert ledger.reserve(REQUEST).charged == {"Bob", "Cyd"}, "her row may still stand in the sheet"
    assert ledger.reserve(WITHOUT_ANN).charged == {"Bob", "Cyd"}
    ledger.release(WITHOUT_ANN, b"without her")
    with pytest.raises(PrivacyRefusal, match="two releases of one round are never made"):
        ledger.release(REQUEST, b"with her")


def test_withdraw__of_everybody_leaves_noise_alone(ledger):
    with pytest.raises(Exception, match="at least one patient"):
        ledger.reserve(replace(REQUEST, patients=()))
    ledger.reserve(replace(REQUEST, patients=("Ann",)))
    ledger.withdraw("Ann")
    answer = ledger.reserve(replace(REQUEST, round=2, patients=()))
    assert (answer.state, answer.charged) == ("reserved", frozenset())


def test_withdraw__is_part_of_the_chain(ledger):
    ledger.reserve(REQUEST)
    ledger.withdraw("Ann")
    ledger._database.execute("DELETE FROM registry WHERE kind = 'withdrawn'")
    fault = ledger.verify()
    assert fault is not None
    assert "row 2" in fault.sentence


def test_withdrawn__says_who(ledger):
    ledger.withdraw("Ann")
    assert ledger.withdrawn(["Ann", "Bob"]) == ["Ann"]
