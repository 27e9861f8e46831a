"""Accuracy against epsilon: pooled figures with their intervals, and the page."""

import json
import re

import jsonschema
import numpy as np
import pytest

from fedcall.errors import FedcallError
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.schemas import report_schema
from fedcall.reporting.utility.documents import UtilityReport
from fedcall.reporting.utility.pooled_scores import pooled_f1, pooled_rare_recall
from fedcall.reporting.utility.report import point_table, read_points, utility_figures, utility_report
from reporting_page import shown_values
from reporting_points import made_point, made_scores, made_sweep


@pytest.fixture(scope="module")
def report() -> UtilityReport:
    return utility_report(made_sweep())


def test_pooled_f1__is_that_of_all_counts_together():
    runs = [made_scores(seed, 0.8) for seed in (1, 2, 3)]
    truth, found, called, right = np.array([person.snps for run in runs for person in run]).sum((0, 1))
    precision, recall = right / called, found / truth
    pooled = pooled_f1(runs)
    assert pooled.measure.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert pooled.measure.low < pooled.measure.value < pooled.measure.high
    rare = [person.rare for run in runs for person in run]
    assert pooled_rare_recall(runs).measure.value == pytest.approx(sum(n for _, n in rare) / sum(n for n, _ in rare))


def test_pooled_f1__interval_covers_seeds_too():
    alike = [made_scores(1, 0.8)] * 3
    unlike = [made_scores(1, 0.6), made_scores(1, 0.8), made_scores(1, 0.95)]

    def width(runs):
        return np.ptp([pooled_f1(runs).measure.low, pooled_f1(runs).measure.high])

    assert width(unlike) > 1.5 * width(alike)
    assert width(alike) == pytest.approx(width(alike[:1]))


def test_pooled_f1__counts_people_of_other_regions_and_nobody_without_indel_labels():
    here, there = made_scores(1, 0.9, people=2), made_scores(2, 0.5, people=2)
    there = tuple(person.model_copy(update={"regions_digest": "1" * 64}) for person in there)
    both = pooled_f1([(*here, *there)]).value
    assert pooled_f1([there]).value < both < pooled_f1([here]).value
    unlabelled = tuple(person.model_copy(update={"indels": None}) for person in there)
    assert pooled_f1([(*here, *unlabelled)], indels=True).value == pooled_f1([here], indels=True).value
    nothing = pooled_f1([unlabelled], indels=True).measure
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)


def test_less__pairs_what_is_hard_for_both():
    one, other = pooled_f1([made_scores(1, 0.8)]), pooled_f1([made_scores(2, 0.7)])
    same = one.less(one)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert one.less(other).value == pytest.approx(one.value - other.value)


def test_utility_report__pools_seeds_and_marks_the_study_own_noise(report: UtilityReport):
    assert [line.study for line in report.lines] == ["by-patient", "by-example"]
    for line in report.lines:
        assert [point.seeds for point in line.points] == [2, 2, 2, 2]
        assert [point.noise_multiplier for point in line.points] == [6, 2, 0.75, 0]  # epsilon rises, no noise is last
        assert line.points[-1].epsilon is None
        assert line.points[-1].price.value == 0
        for point in line.points:
            assert point.gain.value == pytest.approx(point.snps.value - report.start.snps.value)
            assert point.price.value == pytest.approx(point.snps.value - line.points[-1].snps.value)
    assert [point.chosen for line in report.lines for point in line.points] == [False, True, *[False] * 6]
    chosen = report.lines[0].points[1]
    assert f"ε = 3.01 per patient, SNP F1 is {chosen.snps.value:.3f}" in report.sentence
    assert report.rare_variants == 24


def test_utility_report__counts_equal_trainings_once():
    points = [made_point("one", 2.0, own=True), made_point("one", 2.0), made_point("one", 2.0, seed=2)]
    (line,) = utility_report(points).lines
    assert [(point.seeds, point.chosen) for point in line.points] == [(2, True)]


@pytest.mark.parametrize("changed", [{"patients": {"north": 5}}, {"start": made_scores(5, 0.6)}])
def test_utility_report__refuses_points_of_other_people(changed):
    with pytest.raises(FedcallError, match="not about the same people and the same first model"):
        utility_report([made_point("one", 2.0), made_point("one", 0.0, **changed)])


def test_read_points__names_the_file_that_is_none(tmp_path):
    (tmp_path / "a.json").write_text(made_point("one", 1.0).model_dump_json())
    (tmp_path / "b.json").write_text('{"kind": "audit"}')
    assert read_points([tmp_path / "a.json"]) == [made_point("one", 1.0)]
    with pytest.raises(FedcallError, match=r"b\.json: not a point"):
        read_points([tmp_path / "a.json", tmp_path / "b.json"])
    with pytest.raises(FedcallError, match=r"c\.json: no such file"):
        read_points([tmp_path / "c.json"])


@pytest.mark.parametrize("indels", [True, False])
def test_page__shows_the_numbers_of_the_json_and_every_line_apart(indels):
    report = utility_report(made_sweep(indels))
    figures = utility_figures(report)
    assert set(figures) == {"snps", "rare", "indels"} - (set() if indels else {"indels"})
    page, content = render(report, "utility.html", figures), json.loads(to_json(report))
    shown = shown_values(page, content)
    for number in range(4):
        for name in ("epsilon", "snps.value", "snps.low", "rare.value", "gain.low", "price.value"):
            path = f"lines.1.points.{number}.{name}"
            assert path in shown or (name == "epsilon" and number == 3)
    dashes = set(re.findall(r"stroke-dasharray: ([\d., ]+)", figures["snps"]))
    assert len(dashes) >= 2  # without colour lines differ in their dashes
    assert ">no noise<" in figures["snps"]


def test_report_schema__accepts_the_report(report: UtilityReport):
    content = json.loads(to_json(report))
    jsonschema.validate(content, report_schema("utility"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"people": []}, report_schema("utility"))


def test_point_table__fits_a_terminal():
    text = point_table(made_point("one", 2.0))
    assert max(map(len, text.splitlines())) <= 80
    assert "epsilon 3.01 per patient, seed 1" in text
    assert "no noise" in point_table(made_point("one", 0.0, indels=False))
