"""`fedcall report` through the shell."""

import json
import subprocess
from pathlib import Path

import pytest

from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.reporting.privacy.documents import PrivacyReport, StudyPrivacyReport
from forked import run_forked
from reporting_page import shown_values
from reporting_study import Federation, make_federation, play_round, write_concordances


def fedcall(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments)


def report_privacy(federation: Federation, hospital_name: str, *more: object, **changed: object) -> tuple[object, ...]:
    hospital, results = federation.sites[hospital_name], federation.path.parent / hospital_name
    options: dict[str, object] = {
        "study": federation.path,
        "site": hospital_name,
        "keys": hospital.keys,
        "ledger": hospital.ledger,
        "rounds": hospital.rounds,
        "html": results / "privacy.html",
        "json": results / "privacy.json",
    } | changed
    return ("report", "privacy", *(part for name, value in options.items() for part in (f"--{name}", value)), *more)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = make_federation(tmp_path_factory.mktemp("study"))
    for site in federation.sites:
        play_round(federation, site, 1)
    return federation


def test_report__privacy_study_evaluation_summary(federation: Federation) -> None:
    results = federation.path.parent
    for site in federation.sites:
        done = fedcall(*report_privacy(federation, site))
        assert done.returncode == 0, done.stderr
        content = (results / site / "privacy.json").read_text()
        assert done.stdout.strip() == PrivacyReport.model_validate_json(content).spent.sentence
        shown_values((results / site / "privacy.html").read_text(), json.loads(content))

    sites = [results / site / "privacy.json" for site in federation.sites]
    outputs = ("--html", results / "privacy.html", "--json", results / "privacy.json")
    done = fedcall("report", "privacy-study", "--study", federation.path, *outputs, *sites)
    assert done.returncode == 0, done.stderr
    spent = StudyPrivacyReport.model_validate_json((results / "privacy.json").read_bytes())
    assert spent.updates == 2

    misses = {"final": 0.05, "initial": 0.2, "likelihood": 0.2, "bcftools": 0.1}
    concordances = write_concordances(results, {"north": 2, "south": 1}, misses)
    outputs = ("--html", results / "evaluation.html", "--json", results / "evaluation.json")
    done = fedcall("report", "evaluation", "--study", federation.path, *outputs, *concordances)
    assert done.returncode == 0, done.stderr
    calls = EvaluationReport.model_validate_json((results / "evaluation.json").read_bytes())
    assert done.stdout.strip() == calls.sentence

    done = fedcall(
        "report", "summary", "--evaluation", results / "evaluation.json", "--privacy", results / "privacy.json"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sites", "rounds", "privacy", "F1", "refusals"]
    assert "north, south" in lines[0]
    assert lines[1].endswith("1 of 6, 2 updates accepted")
    assert "at δ = 8 × 10⁻³ (" in lines[2]
    assert "at δ = 10⁻⁵) per patient, of 8 allowed" in lines[2]
    assert all(name in lines[3] for name in ("jointly trained", "public-only", "bcftools"))
    assert lines[4].split() == ["refusals", "none"]


def test_report_privacy__written_twice_is_the_same_bytes(federation: Federation, tmp_path: Path) -> None:
    for name in ("one", "two"):
        html, numbers = tmp_path / f"{name}.html", tmp_path / f"{name}.json"
        assert fedcall(*report_privacy(federation, "north", html=html, json=numbers)).returncode == 0
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_report_privacy__shareable_leaves_out_the_ledgers_total(federation: Federation, tmp_path: Path) -> None:
    html, numbers = tmp_path / "p.html", tmp_path / "p.json"
    assert fedcall(*report_privacy(federation, "north", "--shareable", html=html, json=numbers)).returncode == 0
    assert json.loads(numbers.read_text())["site_only"] is None
    assert "stays at the site</span>" not in html.read_text()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("site", "west", "site 'west' is not part of study 'demo' (sites: north, south)"),
        ("rounds", "/nowhere", "/nowhere: no such folder of rounds"),
        ("ledger", "/nowhere/ledger.sqlite", "/nowhere/ledger.sqlite: no such ledger"),
        ("keys", "/nowhere", "/nowhere/secret: no such key"),
        ("study", "/nowhere/study.json", "/nowhere/study.json: no such study"),
    ],
)
def test_report_privacy__mistake_is_one_line_and_writes_nothing(
    federation: Federation, tmp_path: Path, option: str, value: str, message: str
) -> None:
    html, numbers = tmp_path / "p.html", tmp_path / "p.json"
    done = fedcall(*report_privacy(federation, "north", html=html, json=numbers, **{option: value}))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not html.exists()
    assert not numbers.exists()


def test_report_schema__prints_it_or_names_what_there_is() -> None:
    assert json.loads(fedcall("report", "schema", "privacy").stdout)["title"] == "PrivacyReport"
    done = fedcall("report", "schema", "calls")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "allowed: privacy, privacy-study, evaluation" in done.stderr


def test_report_summary__reports_of_two_studies_are_refused(federation: Federation, tmp_path: Path) -> None:
    other = make_federation(tmp_path, name="other")
    play_round(other, "north", 1)
    results = other.path.parent
    assert fedcall(*report_privacy(other, "north")).returncode == 0
    outputs = ("--html", results / "privacy.html", "--json", results / "privacy.json")
    sites = [results / "north" / "privacy.json"]
    assert fedcall("report", "privacy-study", "--study", other.path, *outputs, *sites).returncode == 0
    paths = write_concordances(tmp_path / "r", {"north": 1}, {"final": 0.1, "initial": 0.1})
    outputs = ("--html", tmp_path / "e.html", "--json", tmp_path / "e.json")
    assert fedcall("report", "evaluation", "--study", federation.path, *outputs, *paths).returncode == 0
    done = fedcall("report", "summary", "--evaluation", tmp_path / "e.json", "--privacy", results / "privacy.json")
    assert done.returncode == 2
    assert "about study" in done.stderr
