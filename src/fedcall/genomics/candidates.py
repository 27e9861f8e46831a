"""Find the candidates: alleles that enough usable reads show."""

from dataclasses import dataclass

import numpy as np

from fedcall.genomics import pileup_kernels as kernels
from fedcall.genomics.alignment_records import Records
from fedcall.genomics.alleles import Allele, left_align_deletion, left_align_insertion, right_shift, smallest_period
from fedcall.genomics.examples import BASES

MIN_FRACTION = 0.08
"""Smallest share of the reads at a position that shows the allele."""
MIN_SNP_READS = 1
MIN_INDEL_READS = 2
MIN_INDEL_FRACTION = 0.12
MAX_INDEL_LENGTH = 50
"""Longer ones are structural variants, which short windows cannot judge."""
_CODE = np.full(256, 4, np.uint8)
for _k, _letter in enumerate(BASES):
    _CODE[ord(_letter)] = _CODE[ord(_letter.lower())] = _k


@dataclass(frozen=True)
class Candidates:
    """Candidates in the order of position, REF, ALT; n rows.

    Attributes
    ----------
    alleles : list of Allele
        In leftmost, minimal form.
    position : int64, shape (n,)
    is_indel : bool, shape (n,)
    shift : int64, shape (n,)
        Bases an indel could stand further right; 0 for SNPs.
    period : int64, shape (n,)
        Length of the repeated motif of the inserted or deleted bases; 0 for SNPs.
    support : int64, shape (m, 2)
        (candidate, record) for every read whose CIGAR shows an indel candidate.
    """

    alleles: list[Allele]
    position: np.ndarray
    is_indel: np.ndarray
    shift: np.ndarray
    period: np.ndarray
    support: np.ndarray

    def __len__(self) -> int:
        return len(self.alleles)

    def take(self, rows: np.ndarray) -> "Candidates":
        """Return some of the candidates; `rows` increases."""
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        support = self.support[place[self.support[:, 0]] >= 0]
        return Candidates(
            [self.alleles[row] for row in rows],
            self.position[rows],
            self.is_indel[rows],
            self.shift[rows],
            self.period[rows],
            np.stack([place[support[:, 0]], support[:, 1]], 1),
        )


def base_codes(sequence: str) -> np.ndarray:
    """Return 0..3 for A, C, G, T (either case) and 4 for anything else (uint8)."""
    return _CODE[np.frombuffer(sequence.encode(), np.uint8)]


def find_candidates(
    counts: np.ndarray, events: np.ndarray, records: Records, sequence: str, start: int, window: tuple[int, int]
) -> Candidates:
    """Find the alleles that reads show often enough.

    Parameters
    ----------
    counts, events : from `pileup_kernels.count_channels`, for positions from `start` on
    sequence : upper-case reference of the same positions
    window : (first, last + 1) position candidates may have; must keep `alleles.MAX_SHIFT` from the ends of `sequence`,
        save at the ends of the contig.
    """
    pooled = counts[:, :9] + counts[:, 9:]
    depth = pooled[:, :4].sum(1) + pooled[:, 8]
    indels, support = _indels(events, records, sequence, start, depth, window)
    alleles = [(allele, rows) for allele, rows in zip(indels, support, strict=True)]
    alleles += [(allele, []) for allele in _snps(pooled[:, :4], depth, sequence, start, window)]
    alleles.sort(key=lambda pair: pair[0])
    pairs = [(row, record) for row, (_, reads) in enumerate(alleles) for record in reads]
    ordered = [allele for allele, _ in alleles]
    is_indel = np.array([not allele.is_snp for allele in ordered], bool)
    shift = np.zeros(len(ordered), np.int64)
    period = np.zeros(len(ordered), np.int64)
    for row in np.flatnonzero(is_indel):
        shift[row] = right_shift(ordered[row], sequence, start)
        period[row] = smallest_period(ordered[row].alt[1:] or ordered[row].ref[1:])
    return Candidates(
        ordered,
        np.array([allele.position for allele in ordered], np.int64),
        is_indel,
        shift,
        period,
        np.array(pairs, np.int64).reshape(-1, 2),
    )


def _snps(bases: np.ndarray, depth: np.ndarray, sequence: str, start: int, window: tuple[int, int]) -> list[Allele]:
    codes = base_codes(sequence)
    enough = (bases >= MIN_SNP_READS) & (bases >= MIN_FRACTION * depth[:, None]) & (codes < 4)[:, None]
    enough &= codes[:, None] != np.arange(4, dtype=np.uint8)
    enough[: max(0, window[0] - start)] = False
    enough[max(0, window[1] - start) :] = False
    return [Allele(int(at) + start, sequence[at], BASES[base]) for at, base in np.argwhere(enough)]


def _indels(
    events: np.ndarray, records: Records, sequence: str, start: int, depth: np.ndarray, window: tuple[int, int]
) -> tuple[list[Allele], list[list[int]]]:
    seen: dict[tuple[int, int, bytes], Allele | None] = {}
    reads: dict[Allele, set[int]] = {}
    scratch = np.empty(MAX_INDEL_LENGTH, np.uint8)
    for event in events:
        record, anchor, length = (int(value) for value in event[:3])
        if abs(length) > MAX_INDEL_LENGTH:
            continue
        bases = b""
        if length > 0:
            lowest = kernels.inserted_bases(records.buffer, records.table, event, scratch)
            bases = scratch[:length].tobytes()
            if lowest < kernels.MIN_BASE_QUALITY or max(bases) > 3:
                continue
        key = (anchor, length, bases)
        if key not in seen:
            seen[key] = _allele(anchor, length, bases, sequence, start)
        allele = seen[key]
        if allele is not None and window[0] <= allele.position < window[1]:
            reads.setdefault(allele, set()).add(record)
    fragment = records.fragment
    kept = [
        allele
        for allele, rows in sorted(reads.items())
        if len({int(fragment[row]) for row in rows})
        >= max(MIN_INDEL_READS, MIN_INDEL_FRACTION * depth[allele.position - start])
    ]
    return kept, [sorted(reads[allele]) for allele in kept]


def _allele(anchor: int, length: int, bases: bytes, sequence: str, start: int) -> Allele | None:
    if length > 0:
        if not 0 <= anchor - start < len(sequence):
            return None
        allele = left_align_insertion(sequence, start, anchor, "".join(BASES[base] for base in bases))
    else:
        if anchor < start or anchor - start - length >= len(sequence):
            return None
        allele = left_align_deletion(sequence, start, anchor, -length)
    return allele if set(allele.ref + allele.alt) <= set(BASES) else None
