"""Kills with Snakemake in the loop, all three rounds; `tests/support/kill_study.py` does hundreds."""

import shutil

import pytest

from kill_study import Runner, make, outcome, run_study
from rehearsal_workspace import Workspace

pytestmark = pytest.mark.slow


def test_kill_study__runs_jobs_and_the_service_are_killed_and_the_study_is_the_same(tmp_path):
    make(tmp_path / "made", ("lakeside",))
    outcomes, killed = [], 0
    for name, kills in (("undisturbed", 0), ("killed", 4)):
        root = shutil.copytree(tmp_path / "made", tmp_path / name)
        hospital = {"lakeside": Workspace(root / "lakeside")}
        runner = Runner(Workspace(root / "coordinator"), hospital, root / "coordinator/state")
        run_study(runner, kills, seed=3, pause=(3.0, 9.0), minutes=15)
        outcomes.append(outcome(runner))
        killed = runner.killed.total()
    assert outcomes[0] == outcomes[1]
    assert killed >= 3
