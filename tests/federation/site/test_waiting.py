"""Waiting at a folder: an answer that comes late is taken, and no answer is an answer after a while."""

import time

import pytest

from fedcall.federation.drop_folder import NotThere
from fedcall.federation.flower.messages import Answer
from fedcall.federation.site import waiting


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.001)


def test_wait_for__looks_again_until_the_answer_is_there() -> None:
    looks = iter([NotThere("no message"), NotThere("half a message"), Answer("receipt")])

    def take() -> Answer:
        found = next(looks)
        if isinstance(found, NotThere):
            raise found
        return found

    assert waiting.wait_for(take, time.monotonic() + 60).kind == "receipt"


def test_wait_for__says_what_is_missing_when_the_time_is_over() -> None:
    looked = []

    def take() -> Answer:
        looked.append(1)
        raise NotThere("no message")

    answer = waiting.wait_for(take, time.monotonic() - 1)
    assert (answer.kind, answer.sentence, len(looked)) == ("wait", "no answer yet: no message", 1)
