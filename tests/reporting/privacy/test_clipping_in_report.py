"""Adaptive clipping in the privacy reports: the clip norm's way, its price, and silence about it where it is fixed."""

import json

import pytest

from fedcall.keys import read_secret
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace, clip_norms, count_share, sum_multiplier
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.privacy.documents import PrivacyReport
from fedcall.reporting.privacy.ledger_facts import read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_figures, privacy_report
from fedcall.reporting.privacy.study_report import study_privacy_figures, study_privacy_report
from reporting_page import shown_values
from reporting_study import Federation, make_federation, play_round

TERMS = PrivacyTerms.model_validate(
    {
        "noise_multiplier": 4.0,
        "sampling_rate": 1.0,
        "steps_per_round": 3,
        "delta": 8e-3,
        "max_epsilon": 30,
        "clipping": "adaptive",
        "adaptation": {"quantile_noise": 0.5, "target_quantile": 0.4},
    }
)
TRACES = (ClipTrace(start=1.0, shares=(0.9, 1.2, 0.3)), ClipTrace(start=0.7, shares=(-0.1, 0.4, 0.5)))


def report_of(federation: Federation, site: str = "north") -> PrivacyReport:
    hospital, study = federation.sites[site], federation.study
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, site)
    return privacy_report(study, site, read_rounds(study, site, hospital.rounds), facts)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = make_federation(tmp_path_factory.mktemp("study"), TERMS)
    for number, trace in enumerate(TRACES, start=1):
        play_round(federation, "north", number, clipping=trace)
    return federation


def test_adaptive_clipping__is_the_trajectory_of_the_claims(federation: Federation) -> None:
    found = report_of(federation).adaptive_clipping
    assert found is not None
    assert [row.norms for row in found.rounds] == [clip_norms(TERMS, trace) for trace in TRACES]
    for row, trace in zip(found.rounds, TRACES, strict=True):
        norms = clip_norms(TERMS, trace)
        assert (row.start, row.end, row.smallest, row.largest) == (norms[0], norms[-1], min(norms), max(norms))
    assert (found.budget_share, found.sum_multiplier) == (count_share(TERMS, 12), sum_multiplier(TERMS, 12))
    assert found.sum_multiplier > TERMS.noise_multiplier


def test_privacy_page__shows_trajectory_and_price(federation: Federation) -> None:
    report = report_of(federation)
    page = render(report, "privacy.html", privacy_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"adaptive_clipping.budget_share", "adaptive_clipping.sum_multiplier"} <= shown
    assert {f"adaptive_clipping.rounds.{row}.largest" for row in (0, 1)} <= shown
    assert 'id="clipping-' in page
    point = report.checklist[8].statement
    assert "the clip norm is adaptive" in point
    assert f"{100 * count_share(TERMS, 12):.2g} % at north" in point
    assert "noisy share of the patients shorter than the clip norm" in report.checklist[3].statement


def test_study_privacy_page__shows_each_site(federation: Federation) -> None:
    play_round(federation, "south", 1, clipping=TRACES[0])
    reports = [report_of(federation, site) for site in ("north", "south")]
    study = study_privacy_report(federation.study, reports)
    assert [(row.site, row.rounds) for row in study.adaptive_clipping] == [("north", 2), ("south", 1)]
    assert study.adaptive_clipping[0].end == clip_norms(TERMS, TRACES[1])[-1]
    page = render(study, "privacy_study.html", study_privacy_figures(study))
    shown = shown_values(page, json.loads(to_json(study)))
    assert {"adaptive_clipping.0.budget_share", "adaptive_clipping.1.end"} <= shown


def test_privacy_page__fixed_clipping_says_so_and_no_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    fixed = make_federation(tmp_path_factory.mktemp("fixed"))
    play_round(fixed, "north", 1)
    report = report_of(fixed)
    assert report.adaptive_clipping is None
    assert "clipping" not in privacy_figures(report)
    assert "Adaptive clipping" not in render(report, "privacy.html", privacy_figures(report))
    assert "adaptive clipping took no share" in report.checklist[8].statement


def test_privacy_page__adaptive_study_before_its_first_round(tmp_path_factory: pytest.TempPathFactory) -> None:
    early = make_federation(tmp_path_factory.mktemp("early"), TERMS)
    play_round(early, "north", 1, clipping=None)  # a claim without a trace, as a withheld one has
    report = report_of(early)
    assert report.adaptive_clipping is not None
    assert report.adaptive_clipping.rounds == ()
    page = render(report, "privacy.html", privacy_figures(report))
    assert "of the budget" in page
