"""What the start of each command of the data path costs, against starting Python and importing numpy."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel

from fedcall.errors import FedcallError

_PEER = ("-c", "import numpy")
# On one patient of a region so small that hardly anything but the start is left.
_LENGTH, _DEPTH = 4_000, 10
_PATIENT = "here-001"


class Start(BaseModel):
    """Processor seconds of one command, user and system together.

    Attributes
    ----------
    seconds, peer_seconds : medians over the turns; the peer is `python -c "import numpy"`
    ratio : median over the turns of the one by the other
    """

    command: str
    seconds: float
    peer_seconds: float
    ratio: float


def benchmark_startup(repeats: int) -> list[Start]:
    """Start each command of the data path on one small patient `repeats` times, each time with the peer beside it.

    Processor seconds, not time on the clock, which depends on what else the machine does. One turn before counts for
    nothing: it compiles kernels and fills the disk's cache.

    Raises
    ------
    FedcallError
        If a command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(repeats + 1):
            for name, arguments in commands.items():
                spent[name].append((_run("-m", "fedcall", *arguments), _run(*_PEER)))
    return [
        Start(
            command=name,
            seconds=statistics.median(own for own, _ in turns[1:]),
            peer_seconds=statistics.median(peer for _, peer in turns[1:]),
            ratio=statistics.median(own / peer for own, peer in turns[1:]),
        )
        for name, turns in spent.items()
    ]


def as_text(starts: list[Start]) -> str:
    """Return the figures as a table for people."""
    lines = [f"{'command':<22}{'CPU s':>8}{'peer s':>8}{'ratio':>8}   peer: python -c 'import numpy'"]
    lines += [f"{one.command:<22}{one.seconds:>8.2f}{one.peer_seconds:>8.2f}{one.ratio:>8.1f}" for one in starts]
    return "\n".join(lines)


def _commands(folder: Path) -> dict[str, list[str]]:
    """Return the commands by name, in an order in which each finds what the ones before it wrote."""
    cohort = ["--site", "here=2", "--holdout", "0", "--public", "0", "--public-holdout", "0"]
    size = ["--region-length", str(_LENGTH), "--depth", str(_DEPTH)]
    _run("-m", "fedcall", "simulate", "--seed", "1", *cohort, *size, "--output", str(folder))
    terms = folder / "study.yaml"
    terms.write_text("name: startup\nrounds: 1\nprivacy:\n  noise_multiplier: 1.0\n  sampling_rate: 0.5\n")
    reference = ["--reference", str(folder / "reference.fa")]
    regions = ["--regions", str(folder / "regions.bed")]
    alignments = ["--alignments", str(folder / f"{_PATIENT}.bam")]
    truth = ["--truth", str(folder / f"{_PATIENT}.truth.vcf.gz")]
    model, calls, labels = folder / "model.safetensors", folder / "calls.vcf.gz", folder / "labels.vcf.gz"
    examples, scored = folder / "examples.safetensors", ["--calls", str(calls), *regions, *reference]
    outputs = {
        "normalise-alignments": [*alignments, *reference, *regions, "--output", str(folder / "normalised.bam")],
        "normalise-labels": [*truth, *reference, *regions, "--sample", _PATIENT, "--output", str(labels)],
        "pileup": [*alignments, *reference, *regions, *truth, "--sample", _PATIENT, "--output", str(examples)],
        "train-public": ["--terms", str(terms), "--output", str(model)],
        "call": ["--model", str(model), *alignments, *reference, *regions, "--output", str(calls)],
        "call-classical": [*alignments, *reference, *regions, "--output", str(folder / "classical.vcf.gz")],
        "allele-counts": [str(labels), "--output", str(folder / "counts.tsv")],
        "concordance": [*truth, *scored, "--json", str(folder / "concordance.json")],
        "errors": [*truth, *alignments, *scored, "--output", str(folder / "errors.json")],
    }
    return {"--help": ["--help"]} | {name: [name, *arguments] for name, arguments in outputs.items()}


def _run(*arguments: str) -> float:
    """Return the processor seconds of Python with these arguments and of what it started."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise FedcallError(f"{' '.join(arguments[:3])} ended with {process.returncode}: {said[-500:]}")
    return usage.ru_utime + usage.ru_stime
