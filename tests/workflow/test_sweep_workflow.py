"""Accuracy against epsilon as a target of the workflow: a job per training, one page, and nobody private."""

import json
from pathlib import Path

import pytest
import yaml

from fedcall.reporting.utility.documents import UtilityReport
from rehearsal_workspace import COHORT, STUDY, Workspace


def changed(workspace: Workspace, **keys: object) -> None:
    path = workspace.path / "config/config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))


@pytest.mark.slow
def test_privacy_utility_sweep__trains_a_point_per_job_and_draws_them(rehearsal: Workspace, tmp_path: Path):
    workspace = rehearsal.copy(tmp_path / "sweep")
    changed(workspace, sweep={"epsilons": [], "seeds": 1})
    result = workspace.snakemake("--quiet", "rules", "reason", "--", "privacy_utility_sweep")
    assert result.returncode == 0, result.stdout[-4000:]
    results = workspace.path / "results/tiny"
    report = UtilityReport.model_validate_json((results / "utility.json").read_bytes())
    assert (report.patients, report.held_out) == ({"north": 3, "south": 3}, 2)
    (line,) = report.lines
    assert [(point.chosen, point.noise_multiplier) for point in line.points] == [(True, 2.0), (False, 0.0)]
    assert report.sentence in (results / "utility.html").read_text().replace("\u00a0", " ")
    assert sorted(path.name for path in (results / "utility").iterdir()) == ["tiny.inf.1.json", "tiny.own.1.json"]
    assert json.loads((results / "utility/tiny.own.1.json").read_text())["is_own"]


def test_privacy_utility_sweep__refuses_private_people_before_any_job(simulated_cohort: Path, tmp_path: Path):
    workspace = Workspace.create(tmp_path / "private", COHORT, STUDY)
    sheet = simulated_cohort / "workflow.tsv"
    rows = (simulated_cohort / "samples.tsv").read_text().splitlines(keepends=True)
    sheet.write_text("".join(row if "\tpublic\t" in row else row.replace("\tno\n", "\tyes\n") for row in rows))
    content = {"samples": str(sheet), "reference": str(simulated_cohort / "reference.fa"), "study": "config/study.yaml"}
    content["charge_for_good"] = True  # a rehearsal may charge them; a sweep charges nobody
    (workspace.path / "config/config.yaml").write_text(yaml.safe_dump(content))
    result = workspace.snakemake("--quiet", "all", "--", "privacy_utility_sweep")
    assert not (workspace.path / "results").exists()
    rehearsed = workspace.snakemake("--quiet", "all", "--", "create_keys")
    sheet.unlink()
    assert result.returncode == 3
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("fedcall:")]
    assert "6 of 6 people are private" in line
    assert "charge no ledger" in line
    assert rehearsed.returncode == 0, rehearsed.stdout[-2000:]
    (line,) = [line for line in rehearsed.stdout.splitlines() if line.startswith("fedcall:")]
    assert "this rehearsal charges 4 private people for good, in private/north/ledger.sqlite" in line


def test_privacy_utility_sweep__two_studies_of_one_name_are_a_mistake(tmp_path: Path):
    workspace = Workspace.create(tmp_path / "twice", COHORT, STUDY)
    (workspace.path / "config/again.yaml").write_text((workspace.path / "config/study.yaml").read_text())
    changed(workspace, sweep={"studies": ["config/again.yaml"]})
    result = workspace.snakemake("-n", "--quiet", "all", "--", "privacy_utility_sweep")
    assert result.returncode == 2
    assert "again.yaml: study 'tiny' is in the sweep already (config/study.yaml)" in result.stdout
