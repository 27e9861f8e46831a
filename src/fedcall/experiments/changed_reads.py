"""What goes wrong at one hospital's sequencer or in its samples, put into real people's reads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam

from fedcall.experiments.wrong_runs import wrong_runs
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reads.opening import open_alignments

QUALITY_SHIFT = 8
NOVASEQ_BINS = ((2, 2), (17, 12), (29, 23), (93, 37))
"""Reported qualities up to the first number become the second, as RTA3 of the NovaSeq reports four levels."""
DEAMINATED_AT_END, DEAMINATION_HALVES, DEAMINATED = 0.05, 4, 0.002
"""Share of cytosines read as T at the first base of a read, bases in which it halves, and share anywhere in the read.

Formalin deaminates cytosines where DNA is single-stranded, that is at the ends of fragments, and end repair copies the
damage: C>T at the 5' end of reads and G>A at the 3' end (Do and Dobrovic 2015; Chen et al. 2023)."""
OXIDISED = 0.01
"""Share of guanines read as T in first reads, and of cytosines read as A in second ones (Costello et al. 2013)."""
_COMPLEMENT = np.zeros(256, np.uint8)
_COMPLEMENT[np.frombuffer(b"ACGTN", np.uint8)] = np.frombuffer(b"TGCAN", np.uint8)

Change = Callable[[pysam.AlignedSegment, np.random.Generator], None]
"""Changes a read, in place; also given: chance."""
BaseChange = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], None]
"""Changes, in place, a read's bases as sequenced (ASCII) and their qualities; also given: 1 or 2, which of its fragment
the read is, and chance."""


def quality_shift(bases: np.ndarray, qualities: np.ndarray, mate: int, chance: np.random.Generator) -> None:
    """State all qualities 8 too high."""
    qualities[:] = np.minimum(qualities + QUALITY_SHIFT, 93)


def quality_bins(bases: np.ndarray, qualities: np.ndarray, mate: int, chance: np.random.Generator) -> None:
    """Report four levels of quality."""
    highest, level = zip(*NOVASEQ_BINS, strict=True)
    qualities[:] = np.array(level)[np.searchsorted(highest, qualities)]


def formalin(bases: np.ndarray, qualities: np.ndarray, mate: int, chance: np.random.Generator) -> None:
    """Deaminate cytosines, most of all at the ends of reads."""
    rates = DEAMINATED + DEAMINATED_AT_END * 0.5 ** (np.arange(len(bases)) / DEAMINATION_HALVES)
    drawn = chance.random((2, len(bases)))
    bases[(bases == ord("C")) & (drawn[0] < rates)] = ord("T")
    bases[(bases == ord("G")) & (drawn[1] < rates[::-1])] = ord("A")


def oxidation(bases: np.ndarray, qualities: np.ndarray, mate: int, chance: np.random.Generator) -> None:
    """Oxidise guanines before the library was amplified."""
    true, shown = (ord("G"), ord("T")) if mate == 1 else (ord("C"), ord("A"))
    bases[(bases == true) & (chance.random(len(bases)) < OXIDISED)] = shown


def _of_bases(change: BaseChange) -> Change:
    """Return what applies a change of bases and qualities to a read, turned as it was sequenced."""

    def apply(read: pysam.AlignedSegment, chance: np.random.Generator) -> None:
        if read.query_sequence is None or read.query_qualities is None:
            return
        bases = np.frombuffer(read.query_sequence.encode(), np.uint8).copy()
        qualities = np.array(read.query_qualities, np.int64)
        if read.is_reverse:
            bases, qualities = _COMPLEMENT[bases[::-1]], qualities[::-1].copy()
        change(bases, qualities, 2 if read.is_read2 else 1, chance)
        if read.is_reverse:
            bases, qualities = _COMPLEMENT[bases[::-1]], qualities[::-1]
        read.query_sequence = bases.tobytes().decode()  # clears the qualities
        read.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + quality) for quality in qualities))

    return apply


SCENARIOS: dict[str, Change | None] = {
    "as they are": None,
    "qualities 8 too high": _of_bases(quality_shift),
    "four levels of quality": _of_bases(quality_bins),
    "formalin": _of_bases(formalin),
    "oxidation": _of_bases(oxidation),
    "homopolymer errors": wrong_runs,
}

DRAWN = ("formalin", "oxidation", "homopolymer errors")
"""Scenarios that another seed draws anew."""


def write_changed(alignments: Path, reference: Path, output: Path, change: Change, seed: int) -> None:
    """Write a BAM file of the same alignments with changed reads, and its index.

    Equal arguments give equal reads.
    """
    chance = np.random.default_rng(seed)
    with (
        open_alignments(alignments, reference) as source,
        pysam.AlignmentFile(str(output), "wb", template=source) as target,
    ):
        for read in source:
            change(read, chance)
            target.write(read)
    pysam.index(htslib_name(output))
