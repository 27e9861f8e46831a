"""Extraction of examples against `samtools mpileup -B -Q0`, on the same reads and one thread each."""

import functools
import resource
import statistics
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pysam
from pydantic import BaseModel

from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.errors import FedcallError
from fedcall.genomics.bgzf import inflate
from fedcall.genomics.examples import write_examples
from fedcall.genomics.pileup.extraction import extract_examples, spans_of
from fedcall.genomics.reads.bam_index import bai_of, first_offset
from fedcall.genomics.shards import Span

_CHUNK = 1 << 20
_TWICE = "fedcall, twice at once"


class PileupBenchmark(BaseModel):
    """What `fedcall benchmark pileup` prints; seconds are medians, ratios medians of turns measured side by side."""

    mpileup_ratio: float  # samtools mpileup over our extraction
    floor_ratio: float  # our extraction over inflation of the same blocks alone
    two_threads_ratio: float  # our extraction on one thread over the same on two
    two_cores_ratio: float  # what two cores of this machine give: two whole extractions in turn over both at once
    seconds: dict[str, float]
    bases: int  # of the reference
    reads: int  # that overlap the regions
    candidates: int
    peak_memory_mb: float  # of a process that extracts once, on one thread
    repeats: int
    threads: int = 1


def benchmark_pileup(alignments: Path, reference: Path, regions: Path | None, repeats: int) -> PileupBenchmark:
    """Time contenders in turn; each has had one untimed turn, which loads the compiled kernels."""
    index = bai_of(alignments)
    if index is None:
        raise FedcallError(f"{alignments}: this benchmark needs a BAM file with a .bai: samtools index {alignments}")
    spans = spans_of(alignments, reference, regions)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder, get_context("spawn").Pool(2) as pool:
        output = Path(folder) / "examples.safetensors"

        def extract(threads: int = 1) -> int:
            examples = extract_examples(alignments, reference, regions, threads=threads)
            write_examples(output, examples)
            return len(examples)

        twice = [(alignments, reference, regions, Path(folder) / f"{run}.safetensors") for run in range(2)]
        blocks = [_blocks(alignments, index, span) for span in spans]
        seconds = alternate(
            {
                "fedcall": extract,
                "fedcall, 2 threads": functools.partial(extract, 2),
                _TWICE: lambda: pool.starmap(_extract, twice, chunksize=1),
                "samtools mpileup": lambda: _mpileup(alignments, reference, spans, Path(folder) / "mpileup"),
                "inflation alone": lambda: _inflate(alignments, blocks),
                "the same by htslib": lambda: _inflate_by_htslib(alignments, blocks),
            },
            repeats,
        )
        candidates = extract()
        with get_context("spawn").Pool(1) as fresh:
            memory = fresh.apply(_peak_memory, twice[0])
    return PileupBenchmark(
        mpileup_ratio=median_ratio(seconds["samtools mpileup"], seconds["fedcall"]),
        floor_ratio=median_ratio(seconds["fedcall"], seconds["inflation alone"]),
        two_threads_ratio=median_ratio(seconds["fedcall"], seconds["fedcall, 2 threads"]),
        two_cores_ratio=2 * median_ratio(seconds["fedcall"], seconds[_TWICE]),
        seconds={name: statistics.median(found) for name, found in seconds.items()},
        bases=sum(end - start for _, start, end in spans),
        reads=sum(int(pysam.view("-c", str(alignments), _text(span))) for span in spans),
        candidates=candidates,
        peak_memory_mb=memory,
        repeats=repeats,
    )


def as_text(result: PileupBenchmark) -> str:
    """Return the result as a table and its ratios."""
    lines = [f"{'':22}{'s':>9}{'Mb/s':>9}{'reads/s':>12}"]
    for name, seconds in result.seconds.items():
        times = 2 if name == _TWICE else 1
        bases, reads = times * result.bases / seconds, times * result.reads / seconds
        lines.append(f"{name:22}{seconds:9.3f}{bases / 1e6:9.2f}{round(reads):12,}")
    return "\n".join(
        [
            *lines,
            "",
            f"{result.reads:,} reads over {result.bases:,} bases, {result.candidates:,} candidates;"
            f" {result.repeats} turns.",
            f"Full extraction has {result.mpileup_ratio:.2f} times the throughput of samtools mpileup -B -Q0,",
            f"and takes {result.floor_ratio:.2f} times as long as inflating the file.",
            f"Two threads: {result.two_threads_ratio:.2f} times one; two separate runs at once:"
            f" {result.two_cores_ratio:.2f} times. Peak memory: {result.peak_memory_mb:.0f} MB.",
        ]
    )


def _text(span: Span) -> str:
    return f"{span[0]}:{span[1] + 1}-{span[2]}"


def _mpileup(alignments: Path, reference: Path, spans: list[Span], output: Path) -> None:
    for span in spans:
        options = ["-B", "-Q0", "-f", str(reference), "-r", _text(span), "-o", str(output)]
        pysam.mpileup(*options, str(alignments), catch_stdout=False)


def _blocks(alignments: Path, index: Path, span: Span) -> tuple[int, int] | None:
    """Return the virtual offsets between which the reads of a region lie."""
    with pysam.AlignmentFile(str(alignments)) as handle:
        begin = first_offset(index, handle.get_tid(span[0]), span[1])
        for _ in handle.fetch(*span):
            pass
        return None if begin is None else (begin, handle.tell())


def _inflate(alignments: Path, blocks: list[tuple[int, int] | None]) -> None:
    content = memoryview(alignments.read_bytes())
    for begin, end in (pair for pair in blocks if pair is not None):
        last = min(len(content), (end >> 16) + 1)
        # A slice would be cut inside its last block.
        for _ in inflate(content[: _end_of_block(content, last)], begin):
            pass


def _inflate_by_htslib(alignments: Path, blocks: list[tuple[int, int] | None]) -> None:
    """Inflate as samtools does."""
    with pysam.BGZFile(str(alignments), "rb") as handle:
        for begin, end in (pair for pair in blocks if pair is not None):
            handle.seek(begin)
            while handle.tell() < end and handle.read(_CHUNK):
                pass


def _end_of_block(content: memoryview, inside: int) -> int:
    at = inside - 1
    return min(len(content), at + int.from_bytes(content[at + 16 : at + 18], "little") + 1)


def _extract(alignments: Path, reference: Path, regions: Path | None, output: Path) -> None:
    write_examples(output, extract_examples(alignments, reference, regions))


def _peak_memory(*files: Path) -> float:
    """Megabytes a process held at most that extracted once."""
    _extract(*files)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
