"""The benchmark of planning, on a study small enough for a test."""

from fedcall.benchmarks import dag
from rehearsal_workspace import ROOT


def test_benchmark_dag__counts_the_jobs_of_the_plan(monkeypatch):
    monkeypatch.setattr(dag, "PLANS", (dag.PlannedStudy("small", sites=2, rounds=3),))
    (result,) = dag.benchmark_dag(ROOT / "Snakefile")
    # Per round one training of both sites, and for each site a fetch and an upload; beside them keys and reports.
    assert 3 * (1 + 2 * 2) + 3 <= result.jobs < 3 * (1 + 2 * 2) + 20
    assert 0 < result.plan_seconds < 600
    assert "small" in dag.as_text([result])


def test_benchmark_dag__counts_the_shards_of_genomes(monkeypatch):
    monkeypatch.setattr(dag, "PLANS", (dag.PlannedStudy("genome", sites=2, rounds=1, patients=2, shards=5),))
    (result,) = dag.benchmark_dag(ROOT / "Snakefile")
    assert (result.patients, result.shards) == (4, 5)
    # A job per patient and shard, one per patient to gather them, two per patient to normalise reads and truth.
    assert 4 * (5 + 1 + 2) < result.jobs < 4 * (5 + 1 + 2) + 20
