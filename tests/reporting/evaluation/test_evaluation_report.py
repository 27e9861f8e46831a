"""The evaluation of calls: pooled figures, the ship gate, calibration, and the page."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import read_concordance
from fedcall.genomics.concordance.pool import interval, pool
from fedcall.genomics.concordance.worst_errors import CallError, DrawnRead, WorstErrors
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.reporting.evaluation.inputs import read_errors, read_results, results_digest
from fedcall.reporting.evaluation.report import evaluation_figures, evaluation_report
from fedcall.reporting.schemas import report_schema
from fedcall.study.terms import Study
from reporting_page import shown_values
from reporting_study import make_federation, write_concordances

PATIENTS = {"north": 3, "south": 2}
MISSES = {"final": 0.05, "initial": 0.2, "likelihood": 0.25, "bcftools": 0.1}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_federation(tmp_path_factory.mktemp("study")).study


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_concordances(tmp_path_factory.mktemp("results"), PATIENTS, MISSES)


@pytest.fixture(scope="module")
def report(study: Study, paths: list[Path]) -> EvaluationReport:
    return evaluation_report(study, read_results(paths))


def test_evaluation_report__figures_are_those_of_the_pooled_concordances(
    report: EvaluationReport, paths: list[Path]
) -> None:
    for scope in report.scopes:
        for row in scope.figures:
            own = [path for path in paths if path.parts[-2] == row.caller and scope.site in (None, path.parts[-4])]
            concordances = [read_concordance(path) for path in sorted(own)]  # by site, then patient
            expected = getattr(pool(concordances), row.type)
            assert (row.precision.value, row.recall.value, row.f1.value) == (
                expected.precision,
                expected.recall,
                expected.f1,
            )
            assert (row.f1.low, row.f1.high) == interval(concordances, row.type, "f1")
            assert row.truth == expected.tp + expected.fn
    assert [(scope.site, scope.patients) for scope in report.scopes] == [(None, 5), ("north", 3), ("south", 2)]


def test_evaluation_report__gain_on_unseen_people_and_regions_may_ship(study: Study, tmp_path: Path) -> None:
    # Better on public people, worse on the hospitals' own: public people decide, where nobody trained.
    paths = write_concordances(tmp_path, {"public": 6}, {"final": 0.05, "initial": 0.2})
    unseen = [replace(result, site="public") for result in read_results(paths)]
    paths += write_concordances(tmp_path, {"north": 2}, {"final": 0.3, "initial": 0.05})
    report = evaluation_report(study, read_results(paths), unseen=unseen)
    assert report.gate.passes
    assert (report.gate.recommended, report.gate.model) == ("final", "final.safetensors")
    assert report.gate.people == 6
    assert report.sentence.startswith("Use final.safetensors. On 6 public people who trained no model, in regions that")
    assert "On 2 held-out patients the jointly trained private model has F1 0." in report.sentence
    assert report.gate.difference.is_certain
    page = render(report, "evaluation.html", evaluation_figures(report))
    assert "verdict green" in page
    shown_values(page, json.loads(to_json(report)))
    assert evaluation_report(study, read_results(paths)).gate.decision == "cannot-tell"  # the regions were trained on


def test_evaluation_report__worse_than_public_only_must_not_ship(study: Study, tmp_path: Path) -> None:
    paths = write_concordances(tmp_path, {"public": 6}, {"final": 0.3, "initial": 0.05})
    report = evaluation_report(study, read_results(paths))
    assert report.gate.passes is False
    assert (report.gate.recommended, report.gate.model) == ("initial", "initial.safetensors")
    assert report.sentence.startswith("Keep initial.safetensors: ")
    assert "verdict red" in render(report, "evaluation.html", evaluation_figures(report))


def test_evaluation_report__without_public_people_cannot_be_judged(report: EvaluationReport) -> None:
    assert report.gate.passes is None
    assert (report.gate.recommended, report.gate.model) == (None, None)
    assert report.sentence.startswith("Cannot tell which model is better: ")
    assert "bcftools on the same files 0." in report.sentence
    page = render(report, "evaluation.html", evaluation_figures(report))
    assert "verdict amber" in page
    shown_values(page, json.loads(to_json(report)))


def test_evaluation_report__equal_to_public_only_keeps_it(study: Study, tmp_path: Path) -> None:
    for path in write_concordances(tmp_path, {"public": 6}, {"final": 0.1}):
        copy = tmp_path / "public" / "concordance" / "initial" / path.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    report = evaluation_report(study, read_results(list(tmp_path.rglob("*.json"))))
    assert (report.gate.passes, report.gate.decision) == (False, "no-difference")
    assert report.gate.difference.model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_evaluation_report__untrained_initial_model_is_named_so(study: Study, tmp_path: Path) -> None:
    for path in write_concordances(tmp_path, {"north": 2}, {"final": 0.05, "likelihood": 0.1}):
        if path.parent.name == "likelihood":
            copy = tmp_path / "north" / "concordance" / "initial" / path.name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    report = evaluation_report(study, read_results(list(tmp_path.rglob("*.json"))))
    assert report.initial_is_fresh
    assert ", the untrained one 0." in report.sentence


def test_evaluation_report__snp_truth_scores_no_indels(study: Study, tmp_path: Path) -> None:
    paths = write_concordances(tmp_path, {"north": 2}, {"final": 0.05, "initial": 0.1}, label_types="snps")
    report = evaluation_report(study, read_results(paths))
    assert report.label_types == "snps"
    assert "indels" not in {row.type for row in report.scopes[0].figures}
    shown_values(render(report, "evaluation.html", evaluation_figures(report)), json.loads(to_json(report)))


def test_evaluation_report__says_that_it_is_not_private(report: EvaluationReport) -> None:
    page = render(report, "evaluation.html", evaluation_figures(report))
    assert "These figures are not differentially private." in page
    assert "data-dependent and not differentially private" in report.notes[0].statement


def test_evaluation_report__strata_say_how_many_variants_they_are_about(
    report: EvaluationReport, paths: list[Path]
) -> None:
    final = pool([read_concordance(path) for path in sorted(paths) if path.parts[-2] == "final"])
    counted = {(row.type, row.stratum, row.value): row.figures for row in final.strata}
    for row in report.strata:
        expected = counted[row.type, row.stratum, row.value]
        assert row.calls == expected.tp_calls + expected.fp
        assert row.truth in (None, expected.tp + expected.fn)
    assert any(row.truth is None for row in report.strata)


def test_evaluation_report__page_shows_what_the_json_says(report: EvaluationReport) -> None:
    page = render(report, "evaluation.html", evaluation_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert report.sentence == f"{report.gate.verdict} {report.on_patients}"
    assert {
        "gate.verdict",
        "gate.headline",
        "on_patients",
        "scopes.2.figures.0.f1.low",
        "calibration.0.measured",
        "gate.rule",
    } <= shown
    jsonschema.validate(json.loads(to_json(report)), report_schema("evaluation"))


def test_evaluation_report__calibration_counts_every_call_once(report: EvaluationReport) -> None:
    total = next(row.calls for row in report.scopes[0].figures if (row.caller, row.type) == ("final", "all"))
    points = [point for point in report.calibration if point.caller == "final"]
    assert sum(point.calls for point in points) == total
    for point in points:
        assert math.isclose(10 ** (-point.measured / 10), (point.errors + 0.5) / (point.calls + 1))


def test_evaluation_report__strata_of_calls_only_have_precision_only(report: EvaluationReport) -> None:
    depth = [row for row in report.strata if row.stratum == "depth"]
    assert depth
    assert all(row.truth is None and row.figure == "precision" for row in depth)
    assert all(cell.f1 is None for row in depth for cell in row.cells)
    zygosity = [row for row in report.strata if row.stratum == "zygosity"]
    snps = next(row for row in report.scopes[0].figures if (row.caller, row.type) == ("final", "snps"))
    assert sum(row.truth or 0 for row in zygosity if row.type == "snps") == snps.truth


def test_read_results__patient_without_a_caller_is_named(paths: list[Path]) -> None:
    some = [path for path in paths if path.parts[-4:] != ("south", "concordance", "initial", "south_h1.json")]
    with pytest.raises(FedcallError, match=r"south/concordance/initial/south_h1\.json: not given"):
        read_results(some)


def test_evaluation_report__names_the_panel_that_all_but_bcftools_called_with(study: Study, tmp_path: Path) -> None:
    panel = "ab" * 32
    written = write_concordances(tmp_path, PATIENTS, MISSES)
    for path in written:
        if "bcftools" not in path.parts:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"panel": panel}))
    found = evaluation_report(study, read_results(written))
    assert found.panel == panel
    page = render(found, "evaluation.html", evaluation_figures(found))
    assert "panel" in shown_values(page, json.loads(to_json(found)))
    path = tmp_path / "south/concordance/initial/south_h1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"panel": None}))
    with pytest.raises(FedcallError, match=r"south/concordance/initial/south_h1\.json: .*another panel"):
        read_results(written)


def test_read_results__path_that_names_no_site_is_refused(tmp_path: Path, paths: list[Path]) -> None:
    stray = tmp_path / "north_h0.json"
    stray.write_bytes(paths[0].read_bytes())
    with pytest.raises(FedcallError, match=r"expected …/SITE/concordance/CALLER/PATIENT\.json"):
        read_results([stray])


def test_read_results__unknown_caller_is_refused(tmp_path: Path, paths: list[Path]) -> None:
    stray = tmp_path / "north" / "concordance" / "strelka" / "north_h0.json"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(paths[0].read_bytes())
    with pytest.raises(FedcallError, match="unknown caller 'strelka'"):
        read_results([stray])


def test_evaluation_report__without_the_initial_model_there_is_no_recommendation(
    study: Study, paths: list[Path]
) -> None:
    final = [path for path in paths if path.parent.name == "final"]
    with pytest.raises(FedcallError, match="no concordance of caller 'initial'"):
        evaluation_report(study, read_results(final))


def test_evaluation_report__site_outside_the_study_is_refused(study: Study, tmp_path: Path) -> None:
    paths = write_concordances(tmp_path, {"east": 1}, {"final": 0.1, "initial": 0.1})
    with pytest.raises(FedcallError, match="'east' is not part"):
        evaluation_report(study, read_results(paths))


def test_evaluation_report__public_people_stand_apart(study: Study, report: EvaluationReport, tmp_path: Path) -> None:
    paths = write_concordances(tmp_path, {**PATIENTS, "public": 1}, MISSES)
    beside = evaluation_report(study, read_results(paths))
    assert [scope.site for scope in beside.scopes] == [None, "north", "south", "public"]
    assert beside.scopes[:3] == report.scopes
    assert (report.gate.people, beside.gate.people) == (0, 1)
    page = render(beside, "evaluation.html", evaluation_figures(beside))
    assert re.search(r"<caption>Held-out <data[^>]*>public</data> people, <data[^>]*>1</data> in number", page)


def test_evaluation_report__draws_the_worst_errors_of_all_patients(
    study: Study, paths: list[Path], tmp_path: Path
) -> None:
    files = []
    for site, severities in {"north": (30.0, 5.0), "south": (40.0,)}.items():
        found = WorstErrors(errors_in_all=9, errors=tuple(drawn_error(severity) for severity in severities))
        files.append(tmp_path / site / "errors" / f"{site}_h0.json")
        files[-1].parent.mkdir(parents=True)
        files[-1].write_text(found.model_dump_json())
    report = evaluation_report(study, read_results(paths), read_errors(files))
    assert report.errors_in_all == 18
    assert [(row.site, row.error.severity) for row in report.errors] == [
        ("south", 40.0),
        ("north", 30.0),
        ("north", 5.0),
    ]
    page = render(report, "evaluation.html", evaluation_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"errors_in_all", "errors.0.error.position", "errors.2.error.kind"} <= shown
    assert page.count('<svg class="pileup"') == 3
    with pytest.raises(FedcallError, match=r"expected …/SITE/errors/PATIENT\.json"):
        read_errors([tmp_path / "x.json"])


def test_evaluation_report__calibration_interval_holds_the_measured_quality(report: EvaluationReport) -> None:
    for point in report.calibration:
        assert point.measured_low <= point.measured <= (point.measured_high or math.inf)
        assert (point.measured_high is None) == (point.errors == 0)


def drawn_error(severity: float) -> CallError:
    read = DrawnRead(reverse=False, mapping_quality=60, bases="T", insertions=())
    return CallError(
        contig="chr1",
        position=7,
        ref="A",
        alt="T",
        kind="false call",
        true_copies=0,
        called_copies=1,
        genotype_quality=severity,
        severity=severity,
        depth=1,
        supporting=1,
        start=7,
        reference="A",
        reads=(read,),
    )


def test_results_digest__of_the_content_and_keyed(paths: list[Path]) -> None:
    results, secret = read_results(paths), bytes(range(32))
    digest = results_digest(results, secret)
    assert results_digest(list(reversed(results)), secret) == digest
    assert results_digest(results, bytes(32)) != digest
    assert results_digest([*results[1:], replace(results[0], patient="somebody")], secret) != digest
    other = pool([result.concordance for result in results])
    assert results_digest([*results[1:], replace(results[0], concordance=other)], secret) != digest
