"""What calling cost, from Snakemake's benchmark files."""

from pathlib import Path

from fedcall.callers.cost import JobsCost, cost_of

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def benchmark(folder: Path, name: str, memory: str, seconds: str) -> None:
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}1.0\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t90\t{seconds}\n")


def test_cost_of__adds_up_the_jobs_of_one_patient(tmp_path: Path) -> None:
    for number in (1, 2):
        benchmark(tmp_path, f"call_variants_shard/s.north.p1.{number}-of-2", "200.5", "10.0")
    benchmark(tmp_path, "gather_calls/s.north.p1", "300.0", "1.5")
    benchmark(tmp_path, "call_variants_shard/s.north.p10.1-of-1", "900", "900")
    benchmark(tmp_path, "call_variants/t.north.p1", "900", "900")
    assert cost_of(tmp_path, "s", "north", "final", "p1") == JobsCost(21.5, 300.0, 3)


def test_cost_of__each_caller_has_its_own_files(tmp_path: Path) -> None:
    benchmark(tmp_path, "call_baseline/s.north.initial.p1", "10", "1")
    benchmark(tmp_path, "call_baseline/s.north.likelihood.p1", "20", "2")
    benchmark(tmp_path, "call_gatk/s.north.p1", "3000", "30")
    benchmark(tmp_path, "collect_calls/s.north.gatk.p1", "40", "1")
    benchmark(tmp_path, "collect_calls/s.north.freebayes.p1", "50", "5")
    assert cost_of(tmp_path, "s", "north", "initial", "p1") == JobsCost(1.0, 10.0, 1)
    assert cost_of(tmp_path, "s", "north", "gatk", "p1") == JobsCost(31.0, 3000.0, 2)
    assert cost_of(tmp_path, "s", "north", "bcftools", "p1") is None
    assert cost_of(tmp_path / "none", "s", "north", "gatk", "p1") is None


def test_cost_of__what_was_not_measured_is_not_nothing(tmp_path: Path) -> None:
    benchmark(tmp_path, "call_gatk/s.north.p1", "NA", "NA")
    benchmark(tmp_path, "collect_calls/s.north.gatk.p1", "40", "1")
    assert cost_of(tmp_path, "s", "north", "gatk", "p1") == JobsCost(None, 40.0, 2)
