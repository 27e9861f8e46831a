"""How long a site waits: for an aggregator, and for the other sites."""

import pytest

from consortium import Consortium, make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.fleet import Unreachable
from fedcall.federation.flower.messages import Answer
from fedcall.federation.site import visits as exchange
from fedcall.federation.site.visits import Place, Visitor, fetch_global
from fedcall.keys import read_signing_key
from fedcall.weights import STAND_DOWN, read_weights

WAIT = Answer("wait", sentence="round 1 waits for south")


class Clock:
    """Stands in for time in the exchange: sleeping and visiting make it later."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Aggregator:
    """Answers the visits of a site in turn, the last answer for ever; a visit that waits lasts as long as asked."""

    def __init__(self, clock: Clock, answers: list[Answer | Unreachable]) -> None:
        self.clock, self.answers = clock, answers

    def __call__(self, address, ca, key, request, deadline, then=None) -> Answer:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Unreachable):
            raise answer
        if answer.kind == "wait":
            self.clock.now = max(self.clock.now, deadline)
        return answer


@pytest.fixture
def consortium(tmp_path) -> Consortium:
    return make_consortium(tmp_path)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(exchange, "time", clock)
    return clock


def fetch(consortium, monkeypatch, clock, answers, wait_seconds: float) -> None:
    monkeypatch.setattr(exchange, "exchange", Aggregator(clock, answers))
    place = Place("127.0.0.1:9", consortium.folder / "ca.crt")
    visitor = Visitor(consortium.study, "north", consortium.keys("north"), lambda: place, 600, wait_seconds)
    fetch_global(visitor, 1, consortium.folder / "model.safetensors")


def model_of(consortium) -> Answer:
    key = read_signing_key(consortium.keys("coordinator"))
    state = StudyState(consortium.state, consortium.study, key, consortium.initial)
    return Answer("model", state.opening(1) or b"", state.model_path(1).read_bytes())


def test_fetch__waits_for_other_sites_longer_than_for_an_aggregator(consortium, monkeypatch, clock):
    away = [Unreachable("away")] * 30  # restarted while the site waited
    answers = [*[WAIT] * 100, *away, *[WAIT] * 100, model_of(consortium)]
    fetch(consortium, monkeypatch, clock, answers, wait_seconds=86400)
    assert clock.now > 3600
    assert read_weights(consortium.folder / "model.safetensors").digest == consortium.study.model.initial_weights


def test_fetch__gives_up_when_the_round_never_opens(consortium, monkeypatch, clock):
    with pytest.raises(FedcallError, match=r"no answer in 1440\.0 minutes \(round 1 waits for south\)"):
        fetch(consortium, monkeypatch, clock, [WAIT], wait_seconds=86400)
    assert 86400 <= clock.now < 86400 + 120


def test_fetch__gives_up_early_without_an_aggregator(consortium, monkeypatch, clock):
    with pytest.raises(FedcallError, match="no aggregator reached"):
        fetch(consortium, monkeypatch, clock, [Unreachable("away")], wait_seconds=86400)
    assert 500 < clock.now <= 600


def test_fetch__a_model_not_to_train_on_is_marked(consortium, monkeypatch, clock):
    model = model_of(consortium)
    fetch(consortium, monkeypatch, clock, [model], wait_seconds=1)
    assert (consortium.folder / "model.safetensors").read_bytes() == model.model, "the same bytes at every site"
    told = Answer("model", model.document, model.model, "round 1 is closed; round 2 is open")
    fetch(consortium, monkeypatch, clock, [told], wait_seconds=1)
    marked = read_weights(consortium.folder / "model.safetensors")
    assert marked.metadata[STAND_DOWN] == "round 1 is closed; round 2 is open"
    assert marked.digest == consortium.study.model.initial_weights
