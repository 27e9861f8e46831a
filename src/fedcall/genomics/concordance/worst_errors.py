"""The worst errors of a patient's calls, each with the reads around it, so that a person can see what went wrong."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pysam
from pydantic import Field, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.haplotypes import Fetch, MatchLevel, match
from fedcall.genomics.concordance.records import Variant, read_variants
from fedcall.genomics.reads.alignment_records import DROPPED_FLAGS
from fedcall.genomics.reads.opening import check_alignments, open_alignments
from fedcall.genomics.reference import open_reference
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.labels import label_types
from fedcall.progress import tracked

FLANK = 20
"""Bases drawn on each side of an error."""
LOW_BASE_QUALITY = 15
_MAXIMUM_READS = 30
_PHRED_PER_READ = 3.0  # a copy of the allele is in half of a heterozygote's reads: each is worth 10 log10 2
_MAXIMUM_SEVERITY = 99.0

ErrorKind = Literal["false call", "missed", "wrong copies"]


class Insertion(Document):
    """Bases a read has more than the reference, after a column of the drawing."""

    column: int
    bases: str


class DrawnRead(Document):
    """One read over the columns of the drawing.

    Attributes
    ----------
    bases : str
        A letter per column: base of the read, lower case if its quality is below `LOW_BASE_QUALITY`; `*` where it has
        a deletion, `>` where it skips (spliced), a space where it does not reach.
    """

    reverse: bool
    mapping_quality: int
    bases: str
    insertions: tuple[Insertion, ...]


class CallError(Document):
    """One allele that calls and truth do not share, with the reads that lie over it."""

    contig: str
    position: Annotated[int, Field(ge=1)] = Field(description="1-based, as in the VCF.")
    ref: str
    alt: str
    kind: ErrorKind
    true_copies: Annotated[int, Field(ge=0, le=2)]
    called_copies: Annotated[int, Field(ge=0, le=2)]
    genotype_quality: float | None
    severity: float = Field(
        description="Phred. Of a call its stated genotype quality; of a missed variant 3 for every read that shows it,"
        " what a heterozygote's reads say; at most 99."
    )
    depth: int = Field(description="Reads over the position, as the caller filters them.")
    supporting: int = Field(description="Reads that show the allele; for an indel, one of its length in the drawing.")
    start: int = Field(description="1-based position of the first column.")
    reference: str
    reads: tuple[DrawnRead, ...]


class WorstErrors(Document):
    """The errors of one patient's calls, worst first."""

    schema_version: Literal["fedcall.errors/1"] = "fedcall.errors/1"
    errors_in_all: int
    errors: tuple[CallError, ...]


def worst_errors(
    truth: Path,
    calls: Path,
    alignments: Path,
    regions: Path,
    reference: Path,
    sample: str | None = None,
    limit: int = 50,
) -> WorstErrors:
    """Find what `fedcall concordance` counts as wrong, and draw the worst.

    Parameters
    ----------
    truth, calls, regions, reference, sample
        As for `concordance.compare`.
    alignments : Path
        Indexed BAM or CRAM of the patient.
    limit : int
        Errors returned, at most; all are looked at.

    Raises
    ------
    FedcallError
        If a file is missing or damaged or does not belong to the reference.
    """
    intervals = read_regions(Path(regions), Path(reference))
    check_alignments(alignments, reference, {contig for contig, _, _ in intervals})
    true_variants = read_variants(truth, reference, intervals, sample)
    called = read_variants(calls, reference, intervals)
    if label_types(Path(truth)) == "snps":
        true_variants = [variant for variant in true_variants if variant.is_snp]
        called = [variant for variant in called if variant.is_snp]
    with open_reference(reference) as bases, open_alignments(alignments, reference) as reads:

        def fetch(contig: str, start: int, end: int) -> str:
            letters: str = bases.fetch(contig, start, end).upper()
            return letters

        found = list(_errors(true_variants, called, fetch))
        errors = [draw_error(*error, reads, bases) for error in tracked(found, "drawing errors", "errors")]
    errors.sort(key=lambda error: -error.severity)  # stable: equal ones stay in the order of the genome
    return WorstErrors(errors_in_all=len(errors), errors=tuple(errors[:limit]))


def draw_error(
    variant: Variant, kind: ErrorKind, copies: tuple[int, int], reads: pysam.AlignmentFile, bases: pysam.FastaFile
) -> CallError:
    """Return one wrong allele with the reads around it; `copies` are the true ones and those called."""
    start = max(variant.start - FLANK, 0)
    end = min(variant.start + FLANK + 1, bases.get_reference_length(variant.contig))
    over = variant.start, variant.start + 1
    rows = [
        (_shows(row, variant, start), row)
        for read in reads.fetch(variant.contig, *over)
        if not read.flag & DROPPED_FLAGS and read.query_sequence
        for row in [_row(read, start, end)]
    ]
    supporting = sum(shows for shows, _ in rows)
    rows.sort(key=lambda pair: not pair[0])  # what shows the allele comes first, and is kept when there are too many
    severity = variant.genotype_quality if kind != "missed" else _PHRED_PER_READ * supporting
    return CallError(
        contig=variant.contig,
        position=variant.start + 1,
        ref=variant.ref,
        alt=variant.alt,
        kind=kind,
        true_copies=copies[0],
        called_copies=copies[1],
        genotype_quality=variant.genotype_quality,
        severity=min(float(severity or 0), _MAXIMUM_SEVERITY),
        depth=len(rows),
        supporting=supporting,
        start=start + 1,
        reference=bases.fetch(variant.contig, start, end).upper(),
        reads=tuple(row for _, row in rows[:_MAXIMUM_READS]),
    )


def read_worst_errors(path: Path) -> WorstErrors:
    """Read what `fedcall errors` wrote; errors name the file."""
    try:
        return WorstErrors.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; `fedcall errors` makes it") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not a list of errors: {describe(error)}") from None


def _errors(
    truth: Sequence[Variant], calls: Sequence[Variant], fetch: Fetch
) -> Iterator[tuple[Variant, ErrorKind, tuple[int, int]]]:
    """Each wrong allele once: a call of a true allele with the wrong copies stands in both lists."""
    true_verdicts, call_verdicts = match(truth, calls, fetch)
    copies = {variant.key: variant.dosage for variant in truth}
    for variant, verdict in zip(calls, call_verdicts, strict=True):
        if verdict is MatchLevel.ALLELE:
            yield variant, "wrong copies", (copies[variant.key], variant.dosage)
        elif verdict is MatchLevel.MISSING:
            yield variant, "false call", (0, variant.dosage)
    for variant, verdict in zip(truth, true_verdicts, strict=True):
        if verdict is MatchLevel.MISSING:
            yield variant, "missed", (variant.dosage, 0)


def _row(read: pysam.AlignedSegment, start: int, end: int) -> DrawnRead:
    sequence, qualities = read.query_sequence or "", read.query_qualities
    columns = [" "] * (end - start)
    insertions: list[Insertion] = []
    at, place = 0, read.reference_start
    for operation, length in read.cigartuples or ():
        if operation in (pysam.CMATCH, pysam.CEQUAL, pysam.CDIFF):
            for offset in range(max(start - place, 0), min(end - place, length)):
                base = sequence[at + offset].upper()
                weak = qualities is not None and qualities[at + offset] < LOW_BASE_QUALITY
                columns[place + offset - start] = base.lower() if weak else base
            at, place = at + length, place + length
        elif operation in (pysam.CDEL, pysam.CREF_SKIP):
            for column in range(max(start, place), min(end, place + length)):
                columns[column - start] = "*" if operation == pysam.CDEL else ">"
            place += length
        elif operation in (pysam.CINS, pysam.CSOFT_CLIP):
            if operation == pysam.CINS and start < place <= end:
                insertions.append(Insertion(column=place - 1 - start, bases=sequence[at : at + length].upper()))
            at += length
    return DrawnRead(
        reverse=read.is_reverse,
        mapping_quality=read.mapping_quality,
        bases="".join(columns),
        insertions=tuple(insertions),
    )


def _shows(row: DrawnRead, variant: Variant, start: int) -> bool:
    change = len(variant.alt) - len(variant.ref)
    if change == 0:
        return row.bases[variant.start - start].upper() == variant.alt
    if change > 0:
        return any(len(insertion.bases) == change for insertion in row.insertions)
    return -change in [len(run) for run in re.findall(r"\*+", row.bases)]
