"""List what every fragment says about every candidate."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedcall.genomics import pileup_kernels as kernels
from fedcall.genomics.alignment_records import Records
from fedcall.genomics.candidates import Candidates
from fedcall.genomics.examples import BASES

REF, ALT, OTHER, NEITHER = range(4)
"""What a fragment shows: the reference, the candidate, the best supported further allele, or something else."""


@dataclass(frozen=True)
class Evidence:
    """One row per candidate and fragment that covers it, sorted by candidate; all of shape (m,).

    Attributes
    ----------
    candidate : int64
    shown : int8, REF, ALT, OTHER or NEITHER
    base_quality : int64; of the base, or the mean of the bases beside an indel
    mapping_quality : int64
    reverse : bool
    orientation : int8, +1 F1R2, -1 F2R1, 0 unpaired
    end_distance : int64, bases to the nearer end of the aligned part of the read
    departures : int64, the read's further mismatches (1 each), indels (2) and clips (1) nearby
    """

    candidate: np.ndarray
    shown: np.ndarray
    base_quality: np.ndarray
    mapping_quality: np.ndarray
    reverse: np.ndarray
    orientation: np.ndarray
    end_distance: np.ndarray
    departures: np.ndarray


def collect_evidence(records: Records, candidates: Candidates, reference: np.ndarray, start: int) -> Evidence:
    """Look at every read that covers a candidate; of overlapping mates the better one speaks.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    """
    snps, indels = np.flatnonzero(~candidates.is_indel), np.flatnonzero(candidates.is_indel)
    parts = [
        _snp_evidence(records, candidates, snps, reference, start),
        _indel_evidence(records, candidates, indels, reference, start),
    ]
    rows, shown, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    record = seen[order, 1]
    return Evidence(
        rows[order],
        shown[order].astype(np.int8),
        seen[order, 3].astype(np.int64),
        records.mapping_quality[record],
        records.reverse[record],
        records.orientation[record],
        seen[order, 4].astype(np.int64),
        seen[order, 5].astype(np.int64),
    )


def _snp_evidence(
    records: Records, candidates: Candidates, rows: np.ndarray, reference: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions, place = np.unique(candidates.position[rows], return_inverse=True)
    seen = _observe(kernels.observe_positions, records, reference, start, positions.astype(np.int64))
    seen = _one_per_fragment(records, seen, better=seen[:, 3])
    # Every candidate of a position gets that position's observations.
    first = np.searchsorted(seen[:, 0], np.arange(len(positions)))
    last = np.searchsorted(seen[:, 0], np.arange(len(positions)), side="right")
    lengths = (last - first)[place]
    local = np.repeat(np.arange(len(rows)), lengths)
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen = seen[first[place][local] + steps]
    ref = np.array([BASES.index(candidates.alleles[row].ref) for row in rows], np.int64)
    alt = np.array([BASES.index(candidates.alleles[row].alt) for row in rows], np.int64)
    base = seen[:, 2].astype(np.int64)
    support = np.bincount(local * 5 + base, minlength=5 * len(rows)).reshape(-1, 5)[:, :4]
    everyone = np.arange(len(rows))
    support[everyone, ref] = support[everyone, alt] = -1
    other = support.argmax(1) if len(rows) else np.zeros(0, np.int64)
    shown = np.select([base == ref[local], base == alt[local], base == other[local]], [REF, ALT, OTHER], NEITHER)
    return rows[local], shown, seen


def _indel_evidence(
    records: Records, candidates: Candidates, rows: np.ndarray, reference: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lefts = candidates.position[rows]
    lengths = np.array([len(candidates.alleles[row].ref) for row in rows], np.int64)
    rights = lefts + candidates.shift[rows] + lengths
    seen = _observe(kernels.observe_spans, records, reference, start, lefts, rights)
    keys = rows[seen[:, 0]] * max(len(records), 1) + seen[:, 1]
    carriers = candidates.support[:, 0] * max(len(records), 1) + candidates.support[:, 1]
    shown = np.where(np.isin(keys, carriers), ALT, np.where(seen[:, 2] == 1, OTHER, REF))
    seen[:, 2] = shown
    seen = _one_per_fragment(records, seen, better=seen[:, 4])
    return rows[seen[:, 0]], seen[:, 2].astype(np.int64), seen


def _observe(kernel: Callable[..., int], records: Records, *places: np.ndarray | int) -> np.ndarray:
    count = kernel(records.buffer, records.table, *places, np.empty((0, 6), np.int32))
    seen = np.empty((count, 6), np.int32)
    kernel(records.buffer, records.table, *places, seen)
    return seen


def _one_per_fragment(records: Records, seen: np.ndarray, better: np.ndarray) -> np.ndarray:
    """Sort by place and record, and keep of two mates at one place the better; the first of equal ones."""
    fragment = records.fragment[seen[:, 1]]
    order = np.lexsort((seen[:, 1], -better, fragment, seen[:, 0]))
    seen, fragment = seen[order], fragment[order]
    new = np.ones(len(seen), bool)
    new[1:] = (seen[1:, 0] != seen[:-1, 0]) | (fragment[1:] != fragment[:-1])
    return seen[new]
