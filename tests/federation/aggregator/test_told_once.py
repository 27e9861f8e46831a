"""Anybody may fill a folder, and must not fill the log through it."""

import pytest

from fedcall.federation.aggregator.told_once import ToldOnce


def test_tell__the_same_sentence_once(caplog: pytest.LogCaptureFixture) -> None:
    told = ToldOnce("north")
    for sentence in ("a message is cut off", "a message is cut off", "a manifest is not signed"):
        told.tell(sentence)
    assert caplog.messages == ["site north: a message is cut off", "site north: a manifest is not signed"]


def test_tell__a_bounded_number_of_sentences_and_characters(caplog: pytest.LogCaptureFixture) -> None:
    told = ToldOnce("north")
    for number in range(1_000):
        told.tell(f"{number} " + "x" * 10_000)
    assert 0 < len(caplog.messages) <= 100
    assert max(map(len, caplog.messages)) < 1_000
