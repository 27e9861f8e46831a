"""What calling cost: processor time and memory, from the files of Snakemake's `benchmark:`."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.genomics.vcf.record import number

# Rules whose jobs make a caller's calls, with what follows the caller's name in the name of the file.
_OWN = ("call_variants", "call_variants_shard", "gather_calls")
_BASELINE = ("call_baseline", "call_baseline_shard", "gather_baseline")
_RULES = {
    "final": _OWN,
    "likelihood": _BASELINE,
    "initial": _BASELINE,
    "bcftools": ("call_classical",),
    "freebayes": ("call_freebayes", "collect_calls"),
    "gatk": ("call_gatk", "collect_calls"),
    "deepvariant": ("call_deepvariant", "collect_calls"),
}
_NAMES_CALLER = {*_BASELINE, "collect_calls"}


@dataclass(frozen=True)
class JobsCost:
    """Processor seconds of all jobs together, and the memory of the largest, MB; None where nothing was measured."""

    cpu_seconds: float | None
    memory_mb: float | None
    jobs: int

    @staticmethod
    def total(costs: Sequence["JobsCost"]) -> "JobsCost":
        """Return the cost of all: seconds add up, memory does not. If one has no time, nobody knows the sum."""
        seconds = [cost.cpu_seconds for cost in costs]
        memories = [cost.memory_mb for cost in costs if cost.memory_mb is not None]
        known = [one for one in seconds if one is not None]
        return JobsCost(
            sum(known) if known and len(known) == len(seconds) else None,
            max(memories, default=None),
            sum(cost.jobs for cost in costs),
        )


def cost_of(benchmarks: Path, study: str, site: str, caller: str, patient: str) -> JobsCost | None:
    """Return what it cost to call one patient, or None where the benchmark files are gone.

    Parameters
    ----------
    benchmarks : folder `benchmarks` of the workflow
    """
    jobs = [
        _read(path)
        for rule in _RULES.get(caller, ())
        for path in _files(Path(benchmarks) / rule, study, site, caller if rule in _NAMES_CALLER else None, patient)
    ]
    return JobsCost.total(jobs) if jobs else None


def _files(folder: Path, study: str, site: str, caller: str | None, patient: str) -> Iterator[Path]:
    start = ".".join([study, site, *([caller] if caller else []), patient])
    yield from sorted(path for pattern in (f"{start}.tsv", f"{start}.*-of-*.tsv") for path in folder.glob(pattern))


def _read(path: Path) -> JobsCost:
    """Read one benchmark: a line per repetition, of which the last was the one that counts."""
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    row = rows[-1] if rows else {}
    return JobsCost(number(row.get("cpu_time")), number(row.get("max_rss")), 1)
