"""The coordinator's dashboard shows the state of the study, and nothing else."""

import json

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save

from consortium import make_consortium
from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.operation import set_aside
from fedcall.federation.aggregator.state import StudyState
from fedcall.keys import read_signing_key
from fedcall.privacy.accounting.epsilon import compose, round_event
from fedcall.reporting.base.pages import render, round_up, to_json
from fedcall.reporting.privacy.dashboard import dashboard, dashboard_figures
from fedcall.reporting.schemas import report_schema
from fedcall.study.claims import Receipt
from fedcall.weights import read_weights
from forked import run_forked
from masked_consortium import make_masked_consortium
from reporting_page import shown_values


@pytest.fixture
def consortium(tmp_path):
    return make_consortium(tmp_path, rounds=2)


@pytest.fixture
def state(consortium):
    return StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )


def answer(consortium, state, site, number, **changes):
    base = read_weights(state.model_path(number))
    tensors = consortium.update(site, number, base)
    claim = consortium.claim(site, number, base.digest, tensors, **changes)
    signed = state.answer(site, number, consortium.sign_claim(claim, site), save(tensors))
    return verify(signed, Receipt, consortium.study.coordinator)


def test_dashboard__says_who_is_awaited_and_who_was_refused(consortium, state) -> None:
    answer(consortium, state, "south", 1)
    said = dashboard(consortium.state).sentence
    assert said == "Round 1 of 2 is open: 1 of 2 sites have answered, waiting for north. No update was refused."
    refused = answer(consortium, state, "north", 1, epsilon=0.01)
    assert refused.status == "rejected"
    report = dashboard(consortium.state)
    assert report.sentence.endswith("1 update refused so far.")
    assert [(row.site, row.answer, row.refusals) for row in report.sites] == [
        ("north", "rejected", 1),
        ("south", "accepted", 0),
    ]
    assert [(row.site, row.reason) for row in report.refusals] == [("north", "epsilon")]
    assert [(row.accepted, row.refused, row.change) for row in report.rounds] == [(1, 1, None)]
    assert dashboard_figures(report) == {}


def test_promise_5__dashboard_tells_epsilon_at_both_deltas(consortium, state) -> None:
    report, terms = dashboard(consortium.state), consortium.study.privacy
    event = round_event(terms)
    assert report.epsilon_pld == compose([(event, 1)], terms.delta).pld
    assert report.epsilon_common == compose([(event, 1)], 1e-5).pld
    assert (
        f"ε = {round_up(report.epsilon_pld)} at δ = 2.5 × 10⁻³ ({round_up(report.epsilon_common)} at" in report.spending
    )


def test_dashboard__tells_what_each_round_changed(consortium, state) -> None:
    for number in (1, 2):
        for site in ("north", "south"):
            answer(consortium, state, site, number)
        assert state.close_round_if_due()
    report = dashboard(consortium.state)
    assert report.done
    assert report.sentence.startswith("The study is done: 2 of 2 rounds.")
    models = [read_weights(state.model_path(number)).tensors for number in (1, 2, 3)]
    for row, before, after in zip(report.rounds, models, models[1:], strict=False):
        flat = np.concatenate([(after[name] - before[name]).ravel() for name in before]).astype(float)
        assert row.change == pytest.approx(np.linalg.norm(flat), rel=1e-6)
    assert "<svg" in dashboard_figures(report)["changes"]


def test_dashboard__page_shows_what_the_json_says(consortium, state) -> None:
    answer(consortium, state, "south", 1)
    answer(consortium, state, "north", 1, epsilon=0.01)
    set_aside(consortium.state, "north", "hardware <gone>", "operator")
    report = dashboard(consortium.state)
    page = render(report, "dashboard.html", dashboard_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"sentence", "sites.1.accepted_rounds", "refusals.0.sentence", "interventions.0.reason"} <= shown
    assert "<gone>" not in page
    jsonschema.validate(json.loads(to_json(report)), report_schema("dashboard"))


def test_aggregator_status__writes_the_dashboard(consortium, state, tmp_path) -> None:
    answer(consortium, state, "south", 1)
    page = tmp_path / "dashboard.html"
    done = run_forked("fedcall", "aggregator", "status", "--state", consortium.state, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "waiting for north" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["open_round"] == 1


def test_dashboard__folder_without_a_state_is_refused(tmp_path) -> None:
    with pytest.raises(FedcallError, match="no aggregator has kept its state here"):
        dashboard(tmp_path)


def test_dashboard__with_pooled_noise_says_what_a_broken_promise_leaves(tmp_path) -> None:
    masked = make_masked_consortium(tmp_path, rounds=2)
    masked.open_state()
    assert "if coordinator and all helpers break the promise together" in dashboard(masked.state).spending
