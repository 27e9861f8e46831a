"""The audit's lower bound in the privacy report: beside what epsilon means, or said to be missing."""

import json
from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.keys import read_secret
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.base.pages import render, round_down, to_json
from fedcall.reporting.privacy.audit import read_audit
from fedcall.reporting.privacy.documents import PrivacyReport
from fedcall.reporting.privacy.ledger_facts import read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_figures, privacy_report
from fedcall.reporting.privacy.study_report import study_privacy_figures, study_privacy_report
from reporting_page import shown_values
from reporting_study import Federation, make_federation, play_round, write_audit


def report_of(federation: Federation, audit: Path | None) -> PrivacyReport:
    hospital, study = federation.sites["north"], federation.study
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, "north")
    audited = read_audit(audit, study) if audit else None
    return privacy_report(study, "north", read_rounds(study, "north", hospital.rounds), facts, audit=audited)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = make_federation(tmp_path_factory.mktemp("study"))
    play_round(federation, "north", 1)
    play_round(federation, "south", 1)
    return federation


def test_privacy_report__audit_of_the_studys_own_numbers_leads(federation: Federation, tmp_path: Path) -> None:
    report = report_of(federation, write_audit(tmp_path / "audit.json", federation.study))
    assert report.audit is not None
    assert report.audit.sentence == (
        "An attack on made-up patients, trained with this study's own noise, sampling and steps, proves a loss of at"
        " least ε = 0.41 (95 % confidence), where at most ε = 5.22 is claimed at δ = 10⁻⁵."
    )
    assert (report.audit.faults_planted, report.audit.faults_caught) == (1, 1)
    assert report.audit.sentence in report.checklist[11].statement
    assert report.light.colour == "green"
    page = render(report, "privacy.html", privacy_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"audit.sentence", "audit.confidence"} <= shown
    assert {f"audit.scenes.{number}.epsilon_lower_bound" for number in range(3)} <= shown


def test_privacy_report__audit_without_the_studys_scene_says_whose_noise_it_was(
    federation: Federation, tmp_path: Path
) -> None:
    report = report_of(federation, write_audit(tmp_path / "audit.json", federation.study, own_scene=False))
    assert report.audit is not None
    assert "noise of the audit's own, not this study's, proves a loss of at least ε = 0.63" in report.audit.sentence


def test_privacy_report__audit_that_contradicts_the_claim_is_red(federation: Federation, tmp_path: Path) -> None:
    path = write_audit(tmp_path / "audit.json", federation.study, contradicted=True)
    site = report_of(federation, path)
    study = study_privacy_report(federation.study, [site], read_audit(path, federation.study))
    for report in (site, study):
        assert report.light.colour == "red"
        failed = [condition.statement for condition in report.light.conditions if condition.otherwise == "red"]
        assert "The audit does not contradict what is claimed." in failed
    page = render(study, "privacy_study.html", study_privacy_figures(study))
    assert ">contradicted<" in page
    shown_values(page, json.loads(to_json(study)))


def test_privacy_report__without_audit_says_so_and_names_the_command(federation: Federation) -> None:
    report = report_of(federation, None)
    assert report.audit is None
    assert "no lower bound on the loss was measured" in report.checklist[11].statement
    page = render(report, "privacy.html", privacy_figures(report))
    assert "fedcall audit --study STUDY.yaml --output audit.json" in report.checklist[11].statement
    assert page.count('<data data-path="checklist.11.statement"') == 2  # beside the meaning, and in the checklist
    assert not any("audit" in condition.statement for condition in report.light.conditions)


_OTHER_TERMS: dict[str, object] = {
    "unit": "example",
    "mechanism": "laplace",
    "clip_norm": 0.9,
    "clipping": "adaptive",
    "adaptation": {},
    "noise_multiplier": 3.9,
    "sampling_rate": 0.9,
    "steps_per_round": 2,
    "rows_per_unit": 63,
    "delta": 7e-3,
    "max_epsilon": 7.5,
    "examples_per_patient": 10,
    "noise": "pooled",
    "contribution": "delta",
    "local_steps": 4,
    "max_epsilon_if_broken": 9.0,
}
_BELONGS_WITH: dict[str, dict[str, object]] = {
    "unit": {"examples_per_patient": 10},
    "examples_per_patient": {"unit": "example"},
    "adaptation": {"clipping": "adaptive"},
    "contribution": {"local_steps": 4},
    "local_steps": {"contribution": "delta"},
    "max_epsilon_if_broken": {"noise": "pooled"},
}


@pytest.mark.parametrize("term", PrivacyTerms.model_fields)
def test_promise_4__an_audit_of_one_other_privacy_term_is_refused(
    federation: Federation, tmp_path: Path, term: str
) -> None:
    path = write_audit(tmp_path / "audit.json", federation.study)
    content = json.loads(path.read_text())
    content["terms"] |= {term: _OTHER_TERMS[term]} | _BELONGS_WITH.get(term, {})
    path.write_text(json.dumps(content))
    with pytest.raises(FedcallError, match=rf"audits other terms than those of study .*\b{term} .*, here "):
        read_audit(path, federation.study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "other"}, "study other, here "),
        ({"rounds": 7}, "rounds 7, here "),
        ({"trainable": "norm_and_head"}, "trainable norm_and_head, here all"),
        ({"terms": None}, "older fedcall's audit"),
        ({"scenes": "none"}, "not an audit: "),
    ],
)
def test_read_audit__of_another_kind_of_study_is_refused(
    federation: Federation, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write_audit(tmp_path / "audit.json", federation.study)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FedcallError, match=message):
        read_audit(path, federation.study)


def test_read_audit__missing_file_names_the_command(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(FedcallError, match="no such file; 'fedcall audit --output' makes it"):
        read_audit(tmp_path / "audit.json", federation.study)


@pytest.mark.parametrize(("bound", "text"), [(0.4189, "0.41"), (0.0, "0.00"), (0.29999999, "0.29"), (1.0, "1.00")])
def test_round_down__never_larger_than_the_bound(bound: float, text: str) -> None:
    assert round_down(bound) == text
