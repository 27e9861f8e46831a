"""Find the candidates: alleles that enough usable reads show."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedcall.genomics.alleles import MAX_INDEL_LENGTH, MAX_SHIFT, Allele, right_shift, smallest_period
from fedcall.genomics.examples import BASES
from fedcall.genomics.pileup import candidate_kernels as kernels
from fedcall.genomics.reads.alignment_records import Records

MIN_FRACTION = 0.08
"""Smallest share of the reads at a position that shows the allele."""
MIN_SNP_READS = 1
MIN_INDEL_READS = 2
MIN_INDEL_FRACTION = 0.12
SPELLED_WRONG = 0.2
"""An inserted sequence that differs from a candidate's in at most this share of its bases counts as misread."""
_LOW_BITS = int("01" * kernels.HALF, 2)
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
    support : int64, shape (m, 3)
        (candidate, record, whether the record is settled) for every read whose CIGAR shows an indel candidate.
    """

    alleles: list[Allele]
    position: np.ndarray
    is_indel: np.ndarray
    shift: np.ndarray
    period: np.ndarray
    support: np.ndarray

    def __len__(self) -> int:
        return len(self.alleles)

    @cached_property
    def bases(self) -> np.ndarray:
        """Reference and alternative base of each SNP, 0..3 = ACGT; -1 for indels (int8, shape (n, 2))."""
        rows = np.flatnonzero(~self.is_indel)
        bases = np.full((len(self), 2), -1, np.int8)
        bases[rows] = base_codes("".join(base for row in rows for base in self.alleles[row][1:])).reshape(-1, 2)
        return bases

    @cached_property
    def gained(self) -> np.ndarray:
        """Bases inserted; negative where bases are deleted, 0 for SNPs (int64, shape (n,))."""
        gained = np.zeros(len(self), np.int64)
        for row in np.flatnonzero(self.is_indel):
            _, ref, alt = self.alleles[row]
            gained[row] = len(alt) - len(ref)
        return gained

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
            np.column_stack([place[support[:, 0]], support[:, 1:]]),
        )


def base_codes(sequence: str) -> np.ndarray:
    """Return 0..3 for A, C, G, T (either case) and 4 for anything else (uint8)."""
    return _CODE[np.frombuffer(sequence.encode(), np.uint8)]


def find_candidates(
    counts: np.ndarray,
    events: np.ndarray,
    records: Records,
    sequence: str,
    reference: np.ndarray,
    start: int,
    window: tuple[int, int],
) -> Candidates:
    """Find the alleles that reads show often enough.

    Parameters
    ----------
    counts, events : from `count_kernels.count_channels`, for positions from `start` on
    sequence : upper-case reference of the same positions
    reference : uint8, its codes from `base_codes`
    window : (first, last + 1) position candidates may have; must keep `alleles.MAX_SHIFT` from the ends of `sequence`,
        save at the ends of the contig.
    """
    reads = dict(_indels(counts, events, records, sequence, reference, start, window))
    # Two sorted runs merge cheaply.
    ordered = sorted(reads)
    ordered += _snps(counts, reference, start, window)
    ordered.sort()
    is_indel = np.array([allele in reads for allele in ordered], bool)
    rows = np.flatnonzero(is_indel)
    indels = [ordered[row] for row in rows]
    shift = np.zeros(len(ordered), np.int64)
    period = np.zeros(len(ordered), np.int64)
    shift[rows] = [right_shift(allele, sequence, start) for allele in indels]
    period[rows] = [smallest_period(allele.alt[1:] or allele.ref[1:]) for allele in indels]
    shown = [reads[allele] for allele in indels]
    record = np.concatenate([*shown, np.empty(0, np.int64)])
    support = np.stack([np.repeat(rows, [len(carriers) for carriers in shown]), record, records.settled[record]], 1)
    return Candidates(
        ordered,
        np.array([allele.position for allele in ordered], np.int64),
        is_indel,
        shift,
        period,
        support,
    )


def _snps(counts: np.ndarray, reference: np.ndarray, start: int, window: tuple[int, int]) -> list[Allele]:
    bounds = window[0] - start, window[1] - start
    found = np.empty((4096, 2), np.int32)
    number = kernels.find_snps(counts, reference, *bounds, MIN_SNP_READS, MIN_FRACTION, found)
    if number > len(found):
        found = np.empty((number, 2), np.int32)
        kernels.find_snps(counts, reference, *bounds, MIN_SNP_READS, MIN_FRACTION, found)
    rows, bases = found[:number, 0], found[:number, 1]
    columns = zip((rows + start).tolist(), reference[rows].tolist(), bases.tolist(), strict=True)
    return [Allele(position, BASES[ref], BASES[alt]) for position, ref, alt in columns]


def _indels(
    counts: np.ndarray,
    events: np.ndarray,
    records: Records,
    sequence: str,
    reference: np.ndarray,
    start: int,
    window: tuple[int, int],
) -> Iterator[tuple[Allele, np.ndarray]]:
    """Yield indels that enough fragments show, each with the records that do (int64, ascending)."""
    table = np.empty((len(events), kernels.EVENT_COLUMNS), np.int64)
    number = kernels.normalise_events(
        records.buffer, records.table, events, reference, start, MAX_INDEL_LENGTH, MAX_SHIFT, table
    )
    table = table[:number]
    table = table[(table[:, 0] >= window[0]) & (table[:, 0] < window[1])]
    table = table[np.lexsort(table.T[::-1])]
    # One row per allele and record.
    table = table[np.append(True, (table[1:] != table[:-1]).any(1))] if len(table) else table
    new = np.append(True, (table[1:, :4] != table[:-1, :4]).any(1)) if len(table) else np.zeros(0, bool)
    allele = np.cumsum(new) - 1
    clean = table[:, 5] == 0
    each = max(1, len(records))
    fragments = np.unique((allele * each + records.fragment[table[:, 4]])[clean]) // each
    first = np.flatnonzero(new)
    around = counts[table[first, 0] - start]
    depth = around[:, [0, 1, 2, 3, 8, 9, 10, 11, 12, 17]].sum(1)
    enough = np.bincount(fragments, minlength=len(first)) >= np.maximum(MIN_INDEL_READS, MIN_INDEL_FRACTION * depth)
    allele = _with_misspelled(table, first, enough)[allele]
    shown = np.unique(allele * each + table[:, 4])
    owner, record = np.divmod(shown, each)
    chosen = np.flatnonzero(enough)
    begins, ends = np.searchsorted(owner, chosen, "left"), np.searchsorted(owner, chosen, "right")
    alleles = table[first[chosen], :4].tolist()
    for (position, length, head, tail), begin, end in zip(alleles, begins.tolist(), ends.tolist(), strict=True):
        yield _spell(position, length, head, tail, sequence, start), record[begin:end]


def _with_misspelled(table: np.ndarray, first: np.ndarray, enough: np.ndarray) -> np.ndarray:
    """Return for each allele itself, or the candidate that it is with some inserted bases read wrong.

    Parameters
    ----------
    table : rows of `normalise_events`, sorted; `first` is where each allele begins in it
    enough : bool, shape (alleles,); which are candidates
    """
    alleles = table[first, :4]
    of = np.arange(len(first))
    place = np.cumsum(np.append(True, (alleles[1:, :2] != alleles[:-1, :2]).any(1))) if len(first) else of
    insertions = np.flatnonzero(enough & (alleles[:, 1] > 0))
    begins = np.searchsorted(place, place[insertions], "left").tolist()
    ends = np.searchsorted(place, place[insertions], "right").tolist()
    for index, begin, end in zip(insertions.tolist(), begins, ends, strict=True):
        if end - begin == 1:
            continue
        differing = alleles[begin:end, 2:] ^ alleles[index, 2:]
        wrong = np.bitwise_count((differing | differing >> 1) & _LOW_BITS).sum(1)
        near = ~enough[begin:end] & (wrong <= SPELLED_WRONG * alleles[index, 1])
        of[begin:end][near] = index
    return of


def _spell(position: int, length: int, head: int, tail: int, sequence: str, start: int) -> Allele:
    at = position - start
    if length < 0:
        return Allele(position, sequence[at : at - length + 1], sequence[at])
    halves = ((head, min(length, kernels.HALF)), (tail, max(0, length - kernels.HALF)))
    inserted = "".join(BASES[bases >> 2 * k & 3] for bases, size in halves for k in range(size - 1, -1, -1))
    return Allele(position, sequence[at], sequence[at] + inserted)
