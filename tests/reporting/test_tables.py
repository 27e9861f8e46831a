"""Tables of the reports as DataFrames and TSV, and the page about them."""

import re
from pathlib import Path

import pandas as pd
import pytest

from fedcall.errors import FedcallError
from fedcall.keys import read_secret
from fedcall.reporting.base.pages import to_json
from fedcall.reporting.evaluation.inputs import read_results
from fedcall.reporting.evaluation.report import evaluation_report
from fedcall.reporting.privacy.ledger_facts import read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_report
from fedcall.reporting.privacy.study_report import study_privacy_report
from fedcall.reporting.utility.report import utility_report
from fedcall.tables import read_report, tables, write_tables
from reporting_points import made_sweep
from reporting_study import make_federation, play_round, write_concordances

PAGE = Path(__file__).parents[2] / "docs/tables.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study has left reports of all four kinds."""
    root = tmp_path_factory.mktemp("run")
    federation = make_federation(root / "study")
    study = federation.study
    play_round(federation, "north", 1)
    play_round(federation, "south", 1, "quarantined", "outlier")
    reports = {}
    for site, hospital in federation.sites.items():
        facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, site)
        reports[f"demo/{site}/privacy"] = privacy_report(study, site, read_rounds(study, site, hospital.rounds), facts)
    misses = {"final": 0.05, "initial": 0.2, "likelihood": 0.25, "bcftools": 0.1}
    concordances = write_concordances(root / "concordances", {"north": 3, "south": 2}, misses)
    written = {
        "demo/privacy": study_privacy_report(study, list(reports.values())),
        **reports,
        "demo/evaluation": evaluation_report(study, read_results(concordances)),
        "utility/utility": utility_report(made_sweep()),
    }
    for name, report in written.items():
        path = root / "results" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(report))
    return root


def test_tables__of_an_evaluation_hold_every_figure_once(folder: Path):
    report = read_report(folder / "results/demo/evaluation.json")
    found = tables(report)
    scores = found["scores"]
    assert len(scores) == sum(len(scope.figures) for scope in report.scopes)
    assert not scores.duplicated(["site", "caller", "type"]).any()
    row = report.scopes[0].figures[0]
    own = scores[(scores.site == "all") & (scores.caller == row.caller) & (scores.type == row.type)].iloc[0]
    assert (own.f1, own.f1_low, own.f1_high) == (row.f1.value, row.f1.low, row.f1.high)
    assert len(found["strata"]) == sum(len(stratum.cells) for stratum in report.strata)
    assert found["calibration"].calls.sum() == sum(point.calls for point in report.calibration)
    differences = found["differences"]
    assert differences.f1.tolist() == [row.f1.value for row in report.differences]
    assert not differences.duplicated(["caller", "type"]).any()


def test_tables__of_privacy_reports_hold_spend_and_receipts(folder: Path):
    report = read_report(folder / "results/demo/south/privacy.json")
    found = tables(report)
    assert list(found) == ["spend", "receipts", "plan", "curve", "studies"]
    assert found["spend"].epsilon_pld.tolist() == [row.epsilon_pld for row in report.rounds]
    assert found["receipts"].loc[0, ["site", "round", "status", "reason"]].tolist() == [
        "south",
        1,
        "quarantined",
        "outlier",
    ]
    study = tables(read_report(folder / "results/demo/privacy.json"))
    assert study["sites"].site.tolist() == ["north", "south"]
    assert study["refusals"].reason.tolist() == ["outlier"]


def test_tables__of_utility_have_a_row_per_point_and_two_for_where_it_began(folder: Path):
    report = read_report(folder / "results/utility/utility.json")
    utility = tables(report)["utility"]
    assert len(utility) == sum(len(line.points) for line in report.lines) + 2
    assert utility.snps.tolist()[-1] == report.likelihood.snps.value


def test_write_tables__reads_back_as_it_was(folder: Path):
    for path in sorted((folder / "results").rglob("*.json")):
        expected = tables(read_report(path))
        written = write_tables(path)
        assert [one.name for one in written] == [f"{path.stem}.{name}.tsv" for name in expected]
        for one, frame in zip(written, expected.values(), strict=True):
            back = pd.read_csv(one, sep="\t", na_values="NA") if frame.size else frame
            assert list(back.columns) == list(frame.columns)
            assert len(back) == len(frame)


def test_tables__before_the_first_round_are_empty_and_have_their_columns(folder: Path):
    report = read_report(folder / "results/demo/north/privacy.json").model_copy(update={"rounds": ()})
    found = tables(report)
    assert len(found["spend"]) == len(found["receipts"]) == 0
    assert list(found["receipts"].columns) == ["site", "round", "status", "reason", "sentence"]


def test_read_report__says_what_is_no_report(tmp_path: Path):
    with pytest.raises(FedcallError, match="no such report"):
        read_report(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"kind": "receipt"}')
    with pytest.raises(FedcallError, match="not the JSON of a report"):
        read_report(tmp_path / "other.json")


def test_page__its_code_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert sorted(names["evaluation"]) == ["calibration", "costs", "differences", "scores", "strata"]  # type: ignore[call-overload]
    assert len(names["over_all"]) == 4  # type: ignore[arg-type]
