"""A study that its coordinator closes after the rounds it has: signed, logged, told to the sites."""

import pytest

from consortium import make_consortium
from fedcall.documents import read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.operation import close_study, study_status
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Request
from fedcall.federation.site import visits
from fedcall.federation.site.visits import Place, Visitor, fetch_global
from fedcall.keys import read_signing_key
from fedcall.reporting.privacy.dashboard import dashboard
from fedcall.reporting.privacy.documents import ClosedEarly
from fedcall.reporting.privacy.rounds import closed_early
from fedcall.study.claims import Receipt
from fedcall.study.log_reading import log_rows, read_log
from fedcall.study.opening import RoundOpening
from fedcall.weights import read_weights

REASON = "the budget of two more rounds\nbuys nothing"


@pytest.fixture
def consortium(tmp_path):
    return make_consortium(tmp_path, rounds=4)


def opened(consortium) -> StudyState:
    return StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )


def answer(consortium, state: StudyState, site: str, number: int) -> Receipt:
    update, claim = consortium.write_answer(site, number, state.model_path(number), consortium.folder)
    return read_unverified(state.answer(site, number, claim.read_bytes(), update.read_bytes()), Receipt)[0]


def after_a_round(consortium) -> StudyState:
    state = opened(consortium)
    for site in ("north", "south"):
        assert answer(consortium, state, site, 1).status == "accepted"
    assert state.close_round_if_due()
    return state


def ask(consortium, state: StudyState, number: int) -> RoundOpening:
    """Return the opening that a site is answered with, whatever round it asks for."""
    given = respond(state, "north", Request("fetch", consortium.study.digest, number))
    assert given.kind == "model"
    opening = verify(given.document, RoundOpening, consortium.study.coordinator)
    assert given.model == state.model_path(opening.round).read_bytes()
    return opening


def test_close__the_model_of_the_last_round_is_final_and_everybody_is_told(consortium):
    state = after_a_round(consortium)
    assert ask(consortium, state, 2).closed is None
    assert not state.is_done
    assert close_study(consortium.state, REASON, operator="me@here") == 1
    state.log.catch_up()
    assert state.is_done
    assert state.waiting_for() == []
    for number in (2, 3, 5):
        opening = ask(consortium, state, number)
        assert (opening.round, opening.closed) == (2, REASON)
        assert opening.base == read_weights(state.model_path(2)).digest
    assert ask(consortium, state, 1).closed is None
    again = opened(consortium)  # as after a kill
    assert again.is_done
    assert ask(consortium, again, 2) == ask(consortium, state, 2)
    assert not state.close_round_if_due()


def test_close__an_update_that_comes_then_is_late_and_blameless(consortium):
    state = after_a_round(consortium)
    close_study(consortium.state, REASON)
    receipt = answer(consortium, state, "north", 2)
    assert (receipt.status, receipt.reason) == ("rejected", "late")
    assert state.log.site("north").refusals_in_a_row == 0


def test_close__is_refused_where_it_would_waste_or_make_nothing(consortium):
    state = opened(consortium)
    with pytest.raises(FedcallError, match="no round is over"):
        close_study(consortium.state, REASON)
    state = after_a_round(consortium)
    answer(consortium, state, "south", 2)
    with pytest.raises(FedcallError, match=r"round 2 is open and south answered it.*--abandon-open-round"):
        close_study(consortium.state, REASON)
    with pytest.raises(FedcallError, match="--reason is empty"):
        close_study(consortium.state, " ", abandon=True)
    assert close_study(consortium.state, REASON, abandon=True) == 1
    with pytest.raises(FedcallError, match="has its final model already"):
        close_study(consortium.state, REASON)


def test_close__is_seen_in_log_status_and_dashboard(consortium):
    state = after_a_round(consortium)
    close_study(consortium.state, REASON, operator="me@here")
    assert log_rows(read_log(state.files.log))[-1]["what"].startswith("study closed after round 1 by me@here")
    (consortium.folder / "extract").write_bytes(state.extract("south"))
    assert "study closed" in log_rows(read_log(consortium.folder / "extract"))[-1]["what"], "sites see it, too"
    assert closed_early(read_log(consortium.folder / "extract")) == ClosedEarly(
        round=1, reason=REASON, operator="me@here"
    )
    status = study_status(consortium.state)
    assert (status["done"], status["awaited"], status["closed"]["round"]) == (True, [], 1)
    assert dashboard(consortium.state).sentence.startswith("Closed after round 1 of 4 by me@here")


def test_fetch__tells_once_and_then_fetches_the_final_model(consortium, tmp_path, monkeypatch):
    state = after_a_round(consortium)
    close_study(consortium.state, REASON)
    state.log.catch_up()
    monkeypatch.setattr(
        visits, "exchange", lambda address, ca, key, request, end, then: respond(state, "north", request)
    )
    place = Place("127.0.0.1:1", consortium.initial)
    visitor = Visitor(consortium.study, "north", consortium.keys("north"), lambda: place)
    output, closing = tmp_path / "model.safetensors", tmp_path / "closing.json"
    with pytest.raises(FedcallError, match=r"closed study 'tiny' after round 1 .*run the workflow again") as told:
        fetch_global(visitor, 3, output, closing)
    assert "\n" not in str(told.value)
    assert not output.exists()
    assert verify(closing.read_bytes(), RoundOpening, consortium.study.coordinator).closed == REASON
    assert fetch_global(visitor, 2, output, closing).round == 2
    assert output.read_bytes() == state.model_path(2).read_bytes()
