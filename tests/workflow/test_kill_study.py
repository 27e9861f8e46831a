"""Kills with Snakemake in the loop, all three rounds; `tests/support/kill_study.py` does hundreds.

The suite kills a few processes of each study; `FEDCALL_STUDY_KILLS=60` kills as many as that.
"""

import os
import shutil

import pytest

from kill_study import Runner, make, outcome, run_study

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FEDCALL_STUDY_KILLS", "4"))


@pytest.mark.parametrize(
    ("mode", "sites"),
    [
        pytest.param("plain", ("lakeside",), id="plain"),
        pytest.param(
            "masked",
            ("lakeside", "hillside"),
            marks=pytest.mark.skipif(
                "FEDCALL_STUDY_KILLS" not in os.environ,
                reason="two hospitals and a helper take minutes; FEDCALL_STUDY_KILLS=40 runs it"
                " (each process alone is killed in tests/federation/helper)",
            ),
            id="masked",
        ),
    ],
)
def test_kill_study__runs_jobs_services_and_the_helper_are_killed_and_the_study_is_the_same(tmp_path, mode, sites):
    make(tmp_path / "made", sites, mode)
    outcomes, killed = [], 0
    for name, kills in (("undisturbed", 0), ("killed", KILLS)):
        runner = Runner(shutil.copytree(tmp_path / "made", tmp_path / name), sites)
        run_study(runner, kills, seed=3, pause=(3.0, 9.0) if KILLS < 10 else (1.0, 4.0), minutes=15 + KILLS / 4)
        outcomes.append(outcome(runner))
        killed = runner.killed.total()
    assert outcomes[0] == outcomes[1]
    assert killed >= min(KILLS, 3)
