"""Other callers in the evaluation: paired differences, cost, agreement, and the page that shows them."""

import json
from pathlib import Path

import pytest

from fedcall.callers.agreement import Agreement, Disagreement, Pattern
from fedcall.callers.software import CallerSoftware
from fedcall.genomics.concordance.pool import difference_interval, pool
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.evaluation.callers import Beside, caller_differences
from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.reporting.evaluation.inputs import of_caller, read_agreements, read_results
from fedcall.reporting.evaluation.report import evaluation_figures, evaluation_report
from reporting_page import shown_values
from reporting_study import make_federation, write_concordances

MISSES = {"final": 0.05, "initial": 0.2, "gatk": 0.3, "deepvariant": 0.05, "freebayes": 0.1}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_concordances(tmp_path_factory.mktemp("results"), {"north": 3, "south": 2}, MISSES)


def agreement(count: int, severity: float) -> Agreement:
    names = ("final", "gatk", "deepvariant", "freebayes")
    return Agreement(
        callers=tuple(CallerSoftware(caller=name, software=f"{name} 1", image=None) for name in names),
        patterns=(
            Pattern(type="snps", kind="true variant", callers=names, count=count),
            Pattern(type="snps", kind="true variant", callers=("gatk",), count=1),
        ),
        disagreements_in_all=1,
        disagreements=(
            Disagreement(
                contig="chr1",
                position=100,
                ref="A",
                alt="C",
                kind="true variant",
                true_copies=1,
                callers=("gatk",),
                severity=severity,
            ),
        ),
    )


@pytest.fixture(scope="module")
def report(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    folder = tmp_path_factory.mktemp("study")
    study = make_federation(folder).study
    for number in range(3):
        path = folder / "benchmarks/call_gatk" / f"demo.north.north_h{number}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\tmax_rss\tcpu_time\n1\t2000\t4.0\n")
    agreements = {("north", "north_h0"): agreement(10, 40.0), ("south", "south_h0"): agreement(5, 50.0)}
    return evaluation_report(study, read_results(paths), beside=Beside(agreements, folder / "benchmarks"))


def test_caller_differences__are_paired(report: EvaluationReport, paths: list[Path]) -> None:
    results = read_results(paths)
    assert caller_differences(results) == report.differences
    final = of_caller(results, "final")
    for row in report.differences:
        other = of_caller(results, row.caller)
        expected = getattr(pool(final), row.type).f1 - getattr(pool(other), row.type).f1
        assert row.f1.value == pytest.approx(expected)
        assert (row.f1.low, row.f1.high) == difference_interval(final, other, row.type, "f1")
    certain = {row.caller: row.f1.is_certain for row in report.differences if row.type == "all"}
    assert certain["gatk"]
    assert not certain["deepvariant"]  # it misses as much


def test_evaluation_report__costs_are_those_of_the_benchmark_files(report: EvaluationReport) -> None:
    (row,) = report.costs
    assert (row.caller, row.cpu_seconds, row.memory_mb, row.patients) == ("gatk", 12.0, 2000.0, 3)
    assert row.cpu_seconds_per_mb == pytest.approx(12.0 / (3 * 20_000) * 1e6)


def test_evaluation_report__agreement_over_all_patients(report: EvaluationReport) -> None:
    assert [(row.callers, row.count) for row in report.patterns] == [
        (("final", "gatk", "deepvariant", "freebayes"), 15),
        (("gatk",), 2),
    ]
    assert report.disagreements_in_all == 2
    assert [row.patient for row in report.disagreements] == ["south_h0", "north_h0"]  # worst first
    assert len(report.software_of_callers) == 4  # each once


def test_evaluation_page__shows_callers_side_by_side(report: EvaluationReport) -> None:
    page = render(report, "evaluation.html", evaluation_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {
        "differences.0.f1.value",
        "costs.0.cpu_seconds_per_mb",
        "patterns.1.count",
        "disagreements.0.disagreement.position",
        "software_of_callers.1.software",
    } <= shown
    assert "Where callers disagree" in page
    assert "DeepVariant" in page


def test_evaluation_report__of_before_is_still_read(report: EvaluationReport) -> None:
    content = json.loads(to_json(report))
    for key in ("differences", "costs", "patterns", "disagreements", "disagreements_in_all", "software_of_callers"):
        del content[key]
    older = EvaluationReport.model_validate(content)
    page = render(older, "evaluation.html", evaluation_figures(older))
    assert "Callers side by side" not in page
    shown_values(page, json.loads(to_json(older)))


def test_read_agreements__the_path_names_site_and_patient(tmp_path: Path) -> None:
    path = tmp_path / "north" / "agreement" / "p1.json"
    path.parent.mkdir(parents=True)
    path.write_text(agreement(1, 1.0).model_dump_json())
    assert read_agreements([path]) == {("north", "p1"): agreement(1, 1.0)}
