"""`fedcall call` against `bcftools mpileup | bcftools call`, on the same reads and one thread each."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel

from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.errors import FedcallError
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.calling.classical import call_classical
from fedcall.genomics.pileup.extraction import extract_examples, spans_of
from fedcall.model.caller import build_model, save_model
from fedcall.model.inference import checked_tensors, posteriors
from fedcall.weights import read_weights


class CallBenchmark(BaseModel):
    """What `fedcall benchmark call` prints; seconds are medians, ratios medians of turns measured side by side."""

    bcftools_ratio: float  # bcftools over ours, both inside one process
    command_ratio: float  # the same as commands, the start of their processes included
    seconds: dict[str, float]
    bases: int
    repeats: int
    threads: int = 1


def benchmark_call(
    alignments: Path, reference: Path, regions: Path | None, model: Path | None, repeats: int
) -> CallBenchmark:
    """Time contenders in turn; without a model, that of no training, which computes as much as any."""
    spans = spans_of(alignments, reference, regions)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        ours, theirs = Path(folder) / "ours.vcf.gz", Path(folder) / "theirs.vcf.gz"
        weights = model or Path(folder) / "model.safetensors"
        if model is None:
            save_model(weights, build_model())
        tensors = checked_tensors(read_weights(weights), str(weights))

        def call() -> None:
            examples = extract_examples(alignments, reference, regions)
            write_calls(ours, examples, posteriors(tensors, examples), reference, "sample", Provenance("benchmark"))

        files = ["--alignments", str(alignments), "--reference", str(reference)]
        files += ["--regions", str(regions)] if regions is not None else []
        seconds = alternate(
            {
                "fedcall call": call,
                "bcftools mpileup, call": lambda: call_classical(alignments, reference, theirs, regions),
                "fedcall call, command": lambda: _command("call", "--model", str(weights), *files, output=ours),
                "bcftools, commands": lambda: _command("call-classical", *files, output=theirs),
            },
            repeats,
        )
    return CallBenchmark(
        bcftools_ratio=median_ratio(seconds["bcftools mpileup, call"], seconds["fedcall call"]),
        command_ratio=median_ratio(seconds["bcftools, commands"], seconds["fedcall call, command"]),
        seconds={name: statistics.median(found) for name, found in seconds.items()},
        bases=sum(end - start for _, start, end in spans),
        repeats=repeats,
    )


def as_text(result: CallBenchmark) -> str:
    """Return the result as a table and its ratios."""
    lines = [f"{'':26}{'s':>9}{'Mb/s':>9}"]
    lines += [f"{name:26}{seconds:9.3f}{result.bases / seconds / 1e6:9.3f}" for name, seconds in result.seconds.items()]
    return "\n".join(
        [
            *lines,
            "",
            f"{result.bases:,} bases; {result.repeats} turns. bcftools takes",
            f"  {result.command_ratio:.2f} times as long as a command, the start of its process included;",
            f"  {result.bcftools_ratio:.2f} times as long inside a process.",
        ]
    )


def _command(*words: str, output: Path) -> None:
    start = "import sys; from fedcall.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", start, *words, "--output", str(output)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise FedcallError(result.stderr.strip().splitlines()[-1])
