"""`fedcall compare`: any callers' files against one truth, as table, JSON and page."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedcall.cli import app, commands
from fedcall.errors import FedcallError
from fedcall.genomics.calling.classical import call_classical
from fedcall.genomics.concordance.comparison import compare
from fedcall.reporting.base.pages import render, to_json
from fedcall.reporting.comparison.documents import ComparisonReport
from fedcall.reporting.comparison.report import as_text, compare_files, comparison_figures
from reporting_page import shown_values


@pytest.fixture(scope="module")
def patient(simulated_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the files of one simulated patient, with the calls of bcftools and what is left of them."""
    folder = tmp_path_factory.mktemp("patient")
    alignments, reference = simulated_cohort / "north-h01.bam", simulated_cohort / "reference.fa"
    call_classical(alignments, reference, folder / "bcftools.vcf.gz", simulated_cohort / "regions.bed", "north-h01")
    import pysam

    lines = pysam.BGZFile(str(folder / "bcftools.vcf.gz")).read().decode().splitlines()
    records = [line for line in lines if not line.startswith("#")]
    assert len(records) > 4
    kept = [line for line in lines if line.startswith("#")] + records[: len(records) // 2]
    (folder / "half.vcf").write_text("\n".join(kept) + "\n")
    return {
        "truth": simulated_cohort / "north-h01.truth.vcf.gz",
        "regions": simulated_cohort / "regions.bed",
        "reference": reference,
        "alignments": alignments,
        "bcftools": folder / "bcftools.vcf.gz",
        "half": folder / "half.vcf",
    }


@pytest.fixture(scope="module")
def report(patient: dict[str, Path]) -> ComparisonReport:
    calls = {name: patient[name] for name in ("bcftools", "half")}
    return compare_files(patient["truth"], calls, patient["reference"], patient["regions"], None, patient["alignments"])


def test_compare_files__figures_are_those_of_concordance(report: ComparisonReport, patient: dict[str, Path]) -> None:
    for name in ("bcftools", "half"):
        alone = compare(patient["truth"], patient[name], patient["regions"], patient["reference"])
        rows = {row.type: row for row in report.figures if row.caller == name}
        assert rows["all"].f1.value == alone.all.f1
        assert rows["snps"].precision.value == alone.snps.precision
        assert rows["all"].truth == alone.all.tp + alone.all.fn
    by_caller = {row.caller: row.f1.value for row in report.figures if row.type == "all"}
    (difference,) = [row for row in report.differences if row.type == "all"]
    assert difference.caller == "half"
    assert difference.f1.value == pytest.approx(by_caller["bcftools"] - by_caller["half"])
    assert difference.f1.low is not None
    assert difference.f1.high is not None
    assert difference.f1.low <= difference.f1.value <= difference.f1.high


def test_compare_files__disagreements_are_what_half_lacks(report: ComparisonReport) -> None:
    assert report.disagreements
    assert report.disagreements_in_all == sum(row.count for row in report.patterns if len(row.callers) == 1)
    assert all(row.callers == ("bcftools",) for row in report.disagreements)
    assert all(row.drawn is not None and row.drawn.reads for row in report.disagreements)
    assert report.callers[0].software is not None
    assert report.callers[0].software.startswith("bcftools ")


def test_comparison_page__shows_what_the_json_says(report: ComparisonReport) -> None:
    page = render(report, "comparison.html", comparison_figures(report))
    shown = shown_values(page, json.loads(to_json(report)))
    assert {"sentence", "differences.0.f1.value", "patterns.0.count", "disagreements.0.position"} <= shown
    assert page.count('class="pileup"') == len(report.disagreements)
    assert "half" in as_text(report)


def test_compare_files__without_regions_or_reads(patient: dict[str, Path]) -> None:
    report = compare_files(patient["truth"], {"one": patient["half"]}, patient["reference"])
    assert report.regions_bases > 10_000
    assert report.differences == ()
    assert report.disagreements == ()
    shown_values(render(report, "comparison.html", comparison_figures(report)), json.loads(to_json(report)))


def test_compare_command__writes_page_and_json(patient: dict[str, Path], tmp_path: Path) -> None:
    commands.register(app, "compare")
    files = ["--truth", patient["truth"], "--reference", patient["reference"], "--regions", patient["regions"]]
    files += ["--calls", f"ours={patient['bcftools']}", "--calls", patient["half"]]
    written = ["--json", tmp_path / "c.json", "--html", tmp_path / "c.html"]
    result = CliRunner().invoke(app, ["compare", *map(str, [*files, *written])])
    assert result.exit_code == 0, result.output
    assert "F1 of ours less that of the other" in result.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert [row["caller"] for row in content["callers"]] == ["ours", "half"]
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (["half.vcf", "half.vcf"], "two files of calls are called 'half'; name them"),
        (["ours="], "'ours=': NAME=VCF is needed"),
        (["none.vcf"], "none.vcf: no such VCF file"),
    ],
)
def test_compare_command__mistakes_are_one_line(
    calls: list[str], expected: str, patient: dict[str, Path], tmp_path: Path
) -> None:
    commands.register(app, "compare")
    (tmp_path / "half.vcf").write_bytes(patient["half"].read_bytes())
    files = ["--truth", patient["truth"], "--reference", patient["reference"], "--json", tmp_path / "c.json"]
    for name in calls:
        files += ["--calls", name if name.endswith("=") else tmp_path / name]
    result = CliRunner().invoke(app, ["compare", *map(str, files)])
    assert isinstance(result.exception, FedcallError)
    assert expected in str(result.exception)
    assert not (tmp_path / "c.json").exists()
