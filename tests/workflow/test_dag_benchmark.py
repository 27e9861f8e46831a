"""The benchmark of planning, on a study small enough for a test."""

from rehearsal_workspace import ROOT

from fedcall.benchmarks import dag


def test_benchmark_dag__counts_the_jobs_of_the_plan(monkeypatch):
    monkeypatch.setattr(dag, "PLANS", (dag.Plan("small", sites=2, rounds=3),))
    (result,) = dag.benchmark_dag(ROOT / "Snakefile")
    # Keys of two sites and the coordinator, and per site and round: fetch, train, upload; rounds close but the last.
    assert result.jobs > 3 * 2 * 3 + 2
    assert 0 < result.plan_seconds < 600
    assert "small" in dag.as_text([result])
