"""Count a patient's bases and mismatches on a sample of the regions, where mismatches are errors, most likely.

As in GATK's BaseRecalibrator (DePristo et al. 2011), places where people vary are left out: those a panel knows, and,
since a hospital may have no panel, those where an allele has support. What then is left of heterozygous sites is
expected from the number of reads, and subtracted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedcall.genomics.base_qualities.read_places import CLASS_OF_DISTANCE, CLASSES, MATES, QUALITIES
from fedcall.genomics.calling.panel import Panel
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.count_kernels import count_channels
from fedcall.genomics.reads.alignment_records import fetch_records
from fedcall.genomics.reads.opening import header_contigs, open_alignments
from fedcall.genomics.reads.plain_records import spell_plainly
from fedcall.genomics.reads.workspace import Workspace
from fedcall.genomics.recalibration import mismatch_kernels as kernels
from fedcall.genomics.reference import kept_reference
from fedcall.genomics.shards import Span
from fedcall.genomics.vcf.rows import kept_open

ENOUGH_BASES = 3_000_000
"""Counted bases after which no further piece is looked at; a tenth of a second of a processor."""
PIECE = 20_000
"""Bases of a piece: pieces all over the regions, so that no odd place stands for the patient."""
FEWEST_READS = 3
LOWEST_MAPPING = 20
SUPPORT = 2, 0.12
"""So many reads, and this share of those there, that show one other base make a candidate: no error to be counted."""
HETEROZYGOUS, HOMOZYGOUS = 0.9e-3, 0.5e-3
"""Sites a base at which one person differs from the reference (The 1000 Genomes Project Consortium 2015)."""
UNKNOWN_TO_PANEL = 0.1
"""Share of a person's variants that no panel of public frequencies has."""
_MOST_READS = 256


@dataclass
class Counts:
    """Bases and mismatches of one patient, as sequenced: those of reverse reads are complemented.

    Attributes
    ----------
    bases : int64, shape (64 reported qualities, 2 mates, 11 places in the read, 4 reference bases)
    mismatches : int64, shape (64, 2, 11, 4, 4 bases shown)
    variants : float64, shape of `bases`; mismatches expected from variants that have no support
    pieces : rows of (bases, mismatches, errors that the reported qualities expect), one a piece that was looked at
    """

    bases: np.ndarray = field(default_factory=lambda: np.zeros((QUALITIES, MATES, CLASSES, 4), np.int64))
    mismatches: np.ndarray = field(default_factory=lambda: np.zeros((QUALITIES, MATES, CLASSES, 4, 4), np.int64))
    variants: np.ndarray = field(default_factory=lambda: np.zeros((QUALITIES, MATES, CLASSES, 4)))
    pieces: list[tuple[int, int, float]] = field(default_factory=list)


def count_errors(
    alignments: Path, reference: Path, spans: Sequence[Span], panel: Panel | None = None, enough: int = ENOUGH_BASES
) -> Counts:
    """Count the mismatches of one patient's reads.

    Parameters
    ----------
    alignments : BAM or CRAM of one patient, sorted and indexed; nobody else's reads are looked at
    spans : regions to sample from, sorted and disjoint
    panel : its sites are left out
    enough : bases after which no further piece is looked at
    """
    with open_alignments(alignments, reference) as handle:
        ranks = {contig: rank for rank, contig in enumerate(header_contigs(handle))}
    counts, workspace = Counts(), Workspace()
    expected = _unsupported_variants(1.0 if panel is None else UNKNOWN_TO_PANEL)
    errors = 10.0 ** (-np.arange(QUALITIES) / 10)
    seen = np.zeros(2, np.int64)
    for contig, start, end in sample_pieces(spans):
        _count_piece(alignments, reference, (contig, ranks[contig], start, end), panel, workspace, counts, expected)
        by_quality = counts.bases.sum((1, 2, 3))
        total = np.array([by_quality.sum(), counts.mismatches.sum()])
        if total[0] == seen[0]:
            continue
        told = sum(piece[2] for piece in counts.pieces)
        bases, mismatches = (total - seen).tolist()
        counts.pieces.append((bases, mismatches, float(by_quality @ errors) - told))
        seen = total
        if total[0] >= enough:
            break
    return counts


def sample_pieces(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield the pieces of the regions in an order that is spread over all of them from the beginning on.

    Examples
    --------
    >>> [start for _, start, _ in sample_pieces([("1", 0, 100_000)])]
    [0, 40000, 80000, 20000, 60000]
    """
    pieces = [
        (contig, first, min(first + PIECE, end)) for contig, start, end in spans for first in range(start, end, PIECE)
    ]
    # Steps of the golden section, which leave no gap for long; coprime to the number of pieces, so that all come.
    number = len(pieces)
    step = max(1, round(number * 0.381966))
    while np.gcd(step, number) > 1:
        step += 1
    yield from (pieces[index * step % number] for index in range(number))


def _unsupported_variants(share: float) -> np.ndarray:
    """Return, by number of reads, the share of bases that show a variant which has too few reads to be a candidate."""
    result = np.zeros(_MOST_READS)
    fewest, least_share = SUPPORT
    for reads in range(1, _MOST_READS):
        least = _least_support(reads, fewest, least_share)
        shown = np.arange(min(least, reads + 1))
        chances = np.array([_binomial(reads, int(k)) for k in shown])
        result[reads] = HETEROZYGOUS * (chances * shown).sum() / reads + HOMOZYGOUS * (reads < least)
    return share * result


def _binomial(number: int, successes: int) -> float:
    from math import comb

    return comb(number, successes) / 2.0**number


def _least_support(reads: int, fewest: int, share: float) -> int:
    return max(fewest, int(np.ceil(share * reads)))


_SUPPORTED = np.array([_least_support(reads, *SUPPORT) for reads in range(_MOST_READS)], np.int64)
"""By number of reads: so many that show one other base are a candidate."""


def _count_piece(
    alignments: Path,
    reference: Path,
    place: tuple[str, int, int, int],
    panel: Panel | None,
    workspace: Workspace,
    counts: Counts,
    expected: np.ndarray,
) -> None:
    contig, _, start, end = place
    records = fetch_records(alignments, reference, *place, workspace=workspace)
    if len(records) == 0:
        return
    codes = base_codes(kept_reference(reference).fetch(contig, start, end).upper())
    records = spell_plainly(records, codes, start)
    channels = workspace.counts.take(end - start)[: end - start]
    channels[:] = 0
    events = np.empty((records.indels, 4), np.int64)
    count_channels(records.buffer, records.table, records.mates, codes, start, channels, events)
    usable = np.zeros(end - start, np.uint8)
    kernels.mark_usable(channels, codes, FEWEST_READS, _SUPPORTED, usable)
    if panel is not None:
        rows = kept_open(panel.path, "panel VCF").rows(spans=[(contig, start, end)], everybody=False)
        for row in rows:
            usable[max(0, row.start - start) : max(0, row.start + len(row.ref) - start)] = 0
    kernels.count_mismatches(
        records.buffer,
        records.table,
        codes,
        start,
        usable,
        expected,
        LOWEST_MAPPING,
        CLASS_OF_DISTANCE,
        counts.bases,
        counts.mismatches,
        counts.variants,
    )
