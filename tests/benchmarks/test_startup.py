"""The start of commands, measured."""

from fedcall.benchmarks.startup import as_text, benchmark_startup


def test_benchmark_startup() -> None:
    starts = benchmark_startup(1)
    assert {"--help", "pileup", "call", "concordance"} <= {one.command for one in starts}
    assert all(one.seconds > 0 and one.ratio > 0 for one in starts)
    assert as_text(starts).count("\n") == len(starts)
