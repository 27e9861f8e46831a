"""Find reads that an aligner, sparing itself a gap, aligned with mismatches or clips where an indel fits better.

Near an indel they are the main source of false substitutions, and at the ends of reads the main reason why too few
reads seem to show the indel. The haplotypes compared are those of indel candidates, which other reads show outright
(the idea of consensus realignment: DePristo et al. 2011, "local realignment").
"""

from dataclasses import dataclass

import numpy as np

from fedcall.genomics.pileup.candidates import Candidates, base_codes
from fedcall.genomics.pileup.realignment_kernels import fit_reads
from fedcall.genomics.reads.alignment_records import Records

_EXPECTED_FITS = 16


@dataclass(frozen=True)
class Fits:
    """Reads that fit an indel candidate better than the reference, though aligned without a gap; all of shape (m,).

    Attributes
    ----------
    candidate : int64
    record : int64
    gain : int64
        Phred by which the indel fits better; 0 if another indel candidate nearby fits better still.
    first, behind : int64
        The read says nothing about substitutions at positions in [first, behind): they may lie elsewhere.
    bases : int64
        Bases of the read beyond the indel.
    """

    candidate: np.ndarray
    record: np.ndarray
    gain: np.ndarray
    first: np.ndarray
    behind: np.ndarray
    bases: np.ndarray

    def take(self, rows: np.ndarray) -> "Fits":
        """Return the same fits after `Candidates.take(rows)`; fits of candidates not taken get the candidate -1."""
        place = np.full(int(max(self.candidate.max(initial=-1), rows.max(initial=-1))) + 1, -1, np.int64)
        place[rows] = np.arange(len(rows))
        return Fits(place[self.candidate], self.record, self.gain, self.first, self.behind, self.bases)

    def hides(self, record: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return whether a record says nothing about substitutions at a position (bool, the shape of both)."""
        order = np.argsort(self.record, kind="stable")
        of_record, first, behind = self.record[order], self.first[order], self.behind[order]
        begin, end = (np.searchsorted(of_record, record, side) for side in ("left", "right"))
        hidden = np.zeros(len(record), bool)
        # Few reads fit more than a handful of candidates.
        for k in range(int((end - begin).max(initial=0))):
            there = np.flatnonzero(begin + k < end)
            fit = begin[there] + k
            hidden[there] |= (first[fit] <= position[there]) & (position[there] < behind[fit])
        return hidden


def fit_indels(records: Records, candidates: Candidates, reference: np.ndarray, start: int) -> Fits:
    """Lay every read that was aligned without a gap along the indel candidates near it.

    Parameters
    ----------
    candidates : all that were found; only indels among them are looked at
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    """
    rows = np.flatnonzero(candidates.is_indel)
    alleles = [candidates.alleles[row] for row in rows]
    places = (
        candidates.position[rows],
        np.array([len(allele.ref) for allele in alleles], np.int64),
        candidates.shift[rows],
        base_codes("".join(allele.alt for allele in alleles)),
        np.cumsum([0, *(len(allele.alt) for allele in alleles)]).astype(np.int64),
    )
    found = np.empty((_EXPECTED_FITS * len(rows), 6), np.int32)
    count = fit_reads(records.buffer, records.table, reference, start, *places, found)
    if count > len(found):
        found = np.empty((count, 6), np.int32)
        fit_reads(records.buffer, records.table, reference, start, *places, found)
    columns = found[:count].astype(np.int64).T
    return Fits(rows[columns[0]], *columns[1:])
