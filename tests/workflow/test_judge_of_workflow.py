"""A rehearsal in which held-out people judge the model: one command, from reads to a verdict that the reports tell."""

import json
from pathlib import Path

import pytest

from fedcall.documents import read_signed
from fedcall.keys import read_secret
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.reporting.evaluation.documents import EvaluationReport
from fedcall.reporting.privacy.documents import PrivacyReport
from fedcall.study.claims import Receipt
from fedcall.study.judgement import Verdict
from fedcall.study.terms import read_study
from rehearsal_workspace import STUDY, Workspace

COHORT = {"seed": 7, "sites": {"north": 1, "south": 1}, "holdout": 1, "public": 0, "region_length": 4000, "depth": 20}
EVALUATION = {"regions": ["sim1:2501-3700"], "epsilon": 0.5, "clip": 0.1}


@pytest.mark.slow
def test_rehearsal__held_out_people_judge_the_model_and_the_reports_tell(tmp_path: Path) -> None:
    study = {**STUDY, "name": "judged", "rounds": 1, "evaluation": EVALUATION}
    workspace = Workspace.create(tmp_path / "workspace", COHORT, study)
    done = workspace.snakemake("--quiet", "rules", "reason")
    assert done.returncode == 0, done.stdout[-6000:]
    results = workspace.path / "results/judged"

    signed = read_study(results / "study.json")
    assert [site.holdout for site in signed.sites] == [1, 1]
    verdict = read_signed(results / "verdict.json", Verdict, str(signed.coordinator))
    assert [(site.site, site.people) for site in verdict.sites] == [("north", 1), ("south", 1)]

    calls = EvaluationReport.model_validate_json((results / "evaluation.json").read_bytes())
    assert calls.judge is not None
    assert calls.judge.sentence.startswith("on 2 held-out patients of 2 hospitals the joint model is ")
    assert calls.judge.sentence.endswith("in F1, at epsilon = 0.5 per held-out patient")
    assert (calls.gate.decision, calls.gate.basis, calls.gate.people) == ("cannot-tell", "held-out patients", 2)
    assert calls.sentence.startswith("Cannot tell which model is better: 2 people are too few")
    assert "On 2 held-out patients of 2 hospitals" in (results / "evaluation.html").read_text().replace("\u00a0", " ")
    options = ("--evaluation", results / "evaluation.json", "--privacy", results / "privacy.json")
    assert f"judge     {calls.judge.sentence}" in workspace.fedcall("report", "summary", *options)

    for site in ("north", "south"):
        receipt = read_signed(results / site / "judgement/receipt.json", Receipt, str(signed.coordinator))
        assert (receipt.status, receipt.round, receipt.epsilon) == ("accepted", 2, 0.5)
        spent = PrivacyReport.model_validate_json((results / site / "privacy.json").read_bytes())
        assert spent.site_only is not None
        assert (spent.site_only.judging_people, spent.site_only.judging_exhausted, spent.site_only.people) == (1, 0, 1)
        assert (
            "each clipped to ±0.1, with Laplace noise. It costs each held-out patient" in spent.checklist[3].statement
        )
        assert rows_of(workspace, site) == [("reserve", 1), ("release", 1), ("reserve", 2), ("release", 2)]

    judgement = results / "north/judgement/judgement.json"
    first = judgement.read_bytes()
    judgement.unlink()
    again = workspace.snakemake("--quiet", "rules", "reason", "--", "results/judged/north/judgement/judgement.json")
    assert again.returncode == 0, again.stdout[-3000:]
    assert judgement.read_bytes() == first
    assert "returned: already released" in (workspace.path / "logs/judge_models/judged.north.log").read_text()
    assert len(rows_of(workspace, "north")) == 4
    assert json.loads(first)["body"]["people"] == 1


def rows_of(workspace: Workspace, site: str) -> list[tuple[str, int]]:
    private = workspace.path / "private" / site
    with Ledger.open_to_read(private / "ledger.sqlite", read_secret(private / "keys")) as ledger:
        return [(row.kind, row.round) for row in ledger.rows()]
