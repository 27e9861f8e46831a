"""Core-minutes of one 30x genome on one thread, extrapolated from measured reads, beside bcftools and freebayes."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pysam
import torch
from pydantic import BaseModel

from fedcall.errors import FedcallError
from fedcall.genomics.reference import open_reference
from fedcall.genomics.regions import read_regions
from fedcall.model.caller import build_model, save_model
from fedcall.simulation.cohort import simulate_cohort
from fedcall.workflow.configuration import SimulatedCohort

GENOME_MB = 2_900.0
"""Millions of bases of a human genome that reads can be placed on (GRCh38 without N), rounded."""
DEPTH = 30.0
OURS = "fedcall call"
REAL = Path("../shared/data/na12878")
_PATIENT, _LENGTH, _START_BASES = "here-001", 100_000, 1_000
_SKIPPED_FLAGS = 0x904
_KEEP_SCALE = 1 << 32
_HEAD_SPREAD = 0.01


class Contender(BaseModel):
    """One program.

    Attributes
    ----------
    start_seconds : processor seconds of a run on 1,000 bases: hardly more than its start
    seconds_per_mb : of the whole run less the start, per million bases
    core_minutes : of one genome at 30x: one start, and `GENOME_MB` times the seconds per million bases
    ratio : core-minutes of this program, as those of `fedcall call`
    """

    program: str
    start_seconds: float
    seconds_per_mb: float
    core_minutes: float
    ratio: float


class TwoWorkers(BaseModel):
    """`fedcall call` with one worker and with two: medians of wall-clock seconds, less those of a run on 1,000 bases.

    Means something only on a machine with two idle processors; no ratio where two took no time behind the start.
    """

    one_seconds: float
    two_seconds: float
    times_one: float | None


class GenomeBenchmark(BaseModel):
    """What `fedcall benchmark genome` prints; seconds are medians over the turns, user and system together."""

    reads: Literal["real", "simulated"]
    source: str
    depth: float
    bases: int
    copies: int
    repeats: int
    contenders: list[Contender]
    missing: list[str]
    workers: TwoWorkers


@dataclass(frozen=True)
class Piece:
    """Reads to be measured on: copies of one stretch, one after another."""

    alignments: Path
    reference: Path
    whole: Path
    start: Path
    depth: float
    bases: int
    copies: int


def benchmark_genome(
    alignments: Path | None, reference: Path | None, regions: Path | None, megabases: float, repeats: int
) -> GenomeBenchmark:
    """Measure `fedcall call`, `fedcall pileup`, bcftools and freebayes on the same reads, one thread each.

    `fedcall call` is measured with a model whose head is trained, and with one whose head is zero, as a study that
    trains the chemistry alone leaves it; the former also with two workers, in wall-clock time.

    Reads are thinned to 30x. The longest region is repeated until there is enough to measure, with its reads: what is
    measured is reads as they are, of as many bases as the processor's clock needs.

    Parameters
    ----------
    alignments, reference : one patient; without them the public reads beside the checkout, or simulated ones
    regions : BED; of all of the file if None
    megabases : how much to measure, at least

    Raises
    ------
    FedcallError
        If a file is missing or holds no reads, or a program fails.
    """
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        kind: Literal["real", "simulated"] = "real"
        if alignments is None or reference is None:
            if (REAL / "NA12878.bam").is_file():
                alignments, reference = REAL / "NA12878.bam", REAL / "reference.fa.gz"
            else:
                kind, (alignments, reference) = "simulated", _simulated(folder / "cohort")
        piece = tile(alignments, reference, regions, megabases, folder)
        _save_models(folder)
        commands = _commands(piece, folder)
        missing = [] if shutil.which("freebayes") else ["freebayes"]
        spent = _measure(commands, piece, repeats)
        workers = _measure_workers(commands[OURS], piece, repeats)
    contenders = [_contender(program, spent, piece) for program in commands]
    return GenomeBenchmark(
        reads=kind,
        source=Path(alignments).name,
        depth=piece.depth,
        bases=piece.bases,
        copies=piece.copies,
        repeats=repeats,
        contenders=contenders,
        missing=missing,
        workers=workers,
    )


def as_text(result: GenomeBenchmark) -> str:
    """Return the figures as a table for people."""
    lines = [
        f"{'program, one thread':<24}{'start, CPU s':>14}{'CPU s per Mb':>14}{'core-minutes':>14}{'times ours':>12}"
    ]
    lines += [
        f"{one.program:<24}{one.start_seconds:>14.2f}{one.seconds_per_mb:>14.3f}"
        f"{one.core_minutes:>14.1f}{one.ratio:>12.2f}"
        for one in result.contenders
    ]
    lines += [
        "",
        f"Core-minutes of one genome of {GENOME_MB:,.0f} Mb at {DEPTH:g}x, extrapolated from {result.reads} reads:",
    ]
    lines.append(
        f"{result.source}, at {result.depth:.1f}x, {result.bases:,} bases ({result.copies} copies of one stretch),"
        f" {result.repeats} turns."
    )
    workers = result.workers
    ratio = f"{workers.times_one:.2f}" if workers.times_one is not None else "unknown"
    lines.append(
        f"Two workers: {ratio} times one ({workers.two_seconds:.2f} and {workers.one_seconds:.2f} s of"
        " wall clock behind the start; other work on the machine falsifies it)."
    )
    lines += [f"Not measured, because it is not installed: {name}." for name in result.missing]
    return "\n".join(lines)


def tile(alignments: Path, reference: Path, regions: Path | None, megabases: float, folder: Path) -> Piece:
    """Write copies of one stretch with its reads, thinned to 30x: a BAM, a FASTA and two BED files in `folder`.

    A read is kept or not by its name, so that mates stay together; reads that reach out of the stretch are left out.
    """
    contig, start, end = _stretch(alignments, reference, regions)
    length = end - start
    copies = max(1, -(-int(megabases * 1e6) // length))
    with open_reference(reference) as fasta:
        sequence = fasta.fetch(contig, start, end).upper()
    genome = folder / "genome.fa"
    genome.write_text(f">piece\n{sequence * copies}\n")
    pysam.faidx(str(genome))
    reads = _reads(alignments, reference, (contig, start, end))
    depth = sum(read.query_alignment_length for read in reads) / length
    if not depth:
        raise FedcallError(f"{alignments}: no reads on {contig}:{start + 1}-{end}, the longest region")
    kept = [read for read in reads if zlib.crc32(read.query_name.encode()) < _KEEP_SCALE * min(1.0, DEPTH / depth)]
    header = {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": "piece", "LN": length * copies}],
        "RG": [{"ID": "piece", "SM": "piece"}],
    }
    path = folder / "piece.bam"
    with pysam.AlignmentFile(str(path), "wb", header=header) as out:
        own = [_moved(read, out.header, start) for read in kept]
        for copy in range(copies):
            for read in own:
                record = pysam.AlignedSegment.from_dict(read, out.header)
                record.reference_start += copy * length
                record.query_name = f"{record.query_name}.{copy}"
                out.write(record)
    pysam.index(str(path))
    whole, first = folder / "whole.bed", folder / "first.bed"
    whole.write_text(f"piece\t0\t{length * copies}\n")
    first.write_text(f"piece\t0\t{min(_START_BASES, length)}\n")
    thinned = sum(read.query_alignment_length for read in kept) / length
    return Piece(path, genome, whole, first, thinned, length * copies, copies)


def _stretch(alignments: Path, reference: Path, regions: Path | None) -> tuple[str, int, int]:
    if regions is not None:
        return max(read_regions(regions, reference), key=lambda span: span[2] - span[1])
    with pysam.AlignmentFile(str(alignments), reference_filename=str(reference)) as file:
        counted = max(file.get_index_statistics(), key=lambda one: one.mapped)
        first = last = None
        for read in file.fetch(counted.contig):
            if not read.flag & _SKIPPED_FLAGS:
                first = read.reference_start if first is None else first
                last = max(last or 0, read.reference_end)
    if first is None or last is None:
        raise FedcallError(f"{alignments}: no reads")
    return counted.contig, first, last


def _reads(alignments: Path, reference: Path, span: tuple[str, int, int]) -> list[pysam.AlignedSegment]:
    with pysam.AlignmentFile(str(alignments), reference_filename=str(reference)) as file:
        return [
            read
            for read in file.fetch(*span)
            if not read.flag & _SKIPPED_FLAGS and read.reference_start >= span[1] and read.reference_end <= span[2]
        ]


def _moved(read: pysam.AlignedSegment, header: pysam.AlignmentHeader, start: int) -> dict[str, str]:
    """Return a read as it lies on the piece, without a mate: mates differ between copies only in their place."""
    fields = dict(read.to_dict())
    fields |= {"ref_name": "piece", "ref_pos": str(read.reference_start - start + 1)}
    fields |= {"next_ref_name": "*", "next_ref_pos": "0", "length": "0", "tags": ["RG:Z:piece"]}
    fields["flag"] = str(read.flag & ~0x2F & ~0xC0)  # without what speaks of a mate
    return fields


def _simulated(folder: Path) -> tuple[Path, Path]:
    cohort = SimulatedCohort(
        seed=1, sites={"here": 1}, holdout=0, public=0, public_holdout=0, region_length=_LENGTH, depth=DEPTH
    )
    simulate_cohort(cohort, folder)
    return folder / f"{_PATIENT}.bam", folder / "reference.fa"


def _save_models(folder: Path) -> None:
    """Write a model as training the head leaves it, and one whose head is zero: its network need not be computed."""
    model = build_model()
    save_model(folder / "no_head.safetensors", model)
    with torch.no_grad():
        model.head.weight.normal_(std=_HEAD_SPREAD, generator=torch.Generator().manual_seed(1))
    save_model(folder / "network.safetensors", model)


def _commands(piece: Piece, folder: Path) -> dict[str, list[str]]:
    """Return the command of each program, without its regions."""
    ours = [sys.executable, "-m", "fedcall"]
    files = ["--alignments", str(piece.alignments), "--reference", str(piece.reference)]
    to_file = ["--output", str(folder / "ours.vcf.gz"), "--regions"]
    commands = {
        OURS: [*ours, "call", "--model", str(folder / "network.safetensors"), *files, *to_file],
        "fedcall call, no head": [*ours, "call", "--model", str(folder / "no_head.safetensors"), *files, *to_file],
        "fedcall pileup": [*ours, "pileup", *files, "--output", str(folder / "examples.safetensors"), "--regions"],
        "bcftools mpileup, call": [*ours, "call-classical", *files, "--output", str(folder / "bc.vcf.gz"), "--regions"],
    }
    if shutil.which("freebayes"):
        reads = ["--bam", str(piece.alignments), "--fasta-reference", str(piece.reference)]
        commands["freebayes"] = ["freebayes", *reads, "--vcf", str(folder / "freebayes.vcf"), "--targets"]
    return commands


def _measure(commands: dict[str, list[str]], piece: Piece, repeats: int) -> dict[tuple[str, Path], float]:
    """Return the median processor seconds of each command on the whole and on its start; a first turn warms up."""
    turns: dict[tuple[str, Path], list[float]] = {}
    for turn in range(repeats + 1):
        for bed in (piece.start, piece.whole) if turn else (piece.start,):
            for program, command in commands.items():
                seconds = _cpu([*command, str(bed)])
                if turn:
                    turns.setdefault((program, bed), []).append(seconds)
    return {key: statistics.median(found) for key, found in turns.items()}


def _measure_workers(command: list[str], piece: Piece, repeats: int) -> TwoWorkers:
    turns: dict[tuple[str, Path], list[float]] = {}
    for _ in range(repeats):
        for bed in (piece.start, piece.whole):
            for workers in "12":
                begun = time.perf_counter()
                _cpu([*command, str(bed), "--threads", workers])
                turns.setdefault((workers, bed), []).append(time.perf_counter() - begun)
    one, two = (
        statistics.median(turns[workers, piece.whole]) - statistics.median(turns[workers, piece.start])
        for workers in "12"
    )
    return TwoWorkers(one_seconds=one, two_seconds=two, times_one=one / two if two > 0 else None)


def _cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise FedcallError((done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1].removeprefix("fedcall: "))
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _contender(program: str, spent: dict[tuple[str, Path], float], piece: Piece) -> Contender:
    ours = _minutes(spent, OURS, piece)
    minutes = _minutes(spent, program, piece)
    return Contender(
        program=program,
        start_seconds=spent[program, piece.start],
        seconds_per_mb=_slope(spent, program, piece),
        core_minutes=minutes,
        ratio=minutes / ours,
    )


def _slope(spent: dict[tuple[str, Path], float], program: str, piece: Piece) -> float:
    return (spent[program, piece.whole] - spent[program, piece.start]) / (piece.bases - _START_BASES) * 1e6


def _minutes(spent: dict[tuple[str, Path], float], program: str, piece: Piece) -> float:
    # Reads thinner than 30x cost less, about in proportion to their bases.
    scale = DEPTH / piece.depth
    return (spent[program, piece.start] + _slope(spent, program, piece) * GENOME_MB * scale) / 60
