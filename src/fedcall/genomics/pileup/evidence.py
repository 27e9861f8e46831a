"""List what every fragment says about every candidate."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from fedcall.genomics.observations import Observed, pack
from fedcall.genomics.pileup import observation_kernels as kernels
from fedcall.genomics.pileup.candidates import MIN_FRACTION, Candidates
from fedcall.genomics.pileup.evidence_kernels import compare_bases, describe_records, one_per_fragment
from fedcall.genomics.pileup.observation_kernels import RIGHT
from fedcall.genomics.pileup.realignment import Fits
from fedcall.genomics.reads.alignment_records import Records
from fedcall.genomics.reads.record_fields import FLAG, MAPPING_QUALITY

REF, ALT, OTHER, NEITHER = range(4)
"""What a fragment shows: the reference, the candidate, the best supported further allele, or something else."""
LEAST_SHARED_READS = 3
LEAST_SHARED = 0.3
"""What so many reads show, and this share of the reads there, is no sign that one of them is misaligned: haplotypes
with several changes close to each other exist (of HG002's heterozygous SNPs 0.8 % have two others within 10 bases)."""
_EXPECTED_DEPTH = 64
_HIGHEST_QUALITY = 40


class Places(NamedTuple):
    """The reference from `start` on, and what many reads show there (`observation_kernels.mark_shared`)."""

    reference: np.ndarray
    start: int
    shared: np.ndarray


@dataclass(frozen=True)
class ReadEvidence:
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
    departures : int64, the read's further mismatches (1 each), indels (2) and clips (1) nearby that few others share
    near_three : bool, whether the nearer end is the 3' end as the read was sequenced; False for indels
    """

    candidate: np.ndarray
    shown: np.ndarray
    base_quality: np.ndarray
    mapping_quality: np.ndarray
    reverse: np.ndarray
    orientation: np.ndarray
    end_distance: np.ndarray
    departures: np.ndarray
    near_three: np.ndarray

    def take(self, rows: np.ndarray) -> "ReadEvidence":
        """Return some of the rows; `rows` increases."""
        return ReadEvidence(*(getattr(self, field.name)[rows] for field in fields(self)))

    def packed(self) -> np.ndarray:
        """Return what examples keep of each row: uint32, shape (m,)."""
        columns = (self.shown, self.reverse, self.orientation, self.base_quality, self.mapping_quality)
        return pack(Observed(*columns, self.end_distance, self.departures, self.near_three))


def collect_evidence(
    records: Records, candidates: Candidates, fits: Fits, counts: np.ndarray, reference: np.ndarray, start: int
) -> ReadEvidence:
    """Look at every read that covers a candidate; of overlapping mates the better one speaks.

    Parameters
    ----------
    fits : reads that show an indel candidate without being aligned so
    counts : int16 or int32, from `count_kernels.count_channels`
    reference : uint8, 0..3 = ACGT, 4 = other; both from position `start` on
    """
    places = Places(reference, start, _shared(candidates, counts, reference, start))
    snps, indels = np.flatnonzero(~candidates.is_indel), np.flatnonzero(candidates.is_indel)
    parts = [
        _snp_evidence(records, candidates, snps, fits, places),
        _indel_evidence(records, candidates, indels, fits, places),
    ]
    rows, shown, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    columns = np.empty((4, len(order)), np.int64)
    shown_in_order, orientation = np.empty((2, len(order)), np.int8)
    reverse = np.empty(len(order), bool)
    flags, qualities = records.table[:, FLAG], records.table[:, MAPPING_QUALITY]
    describe_records(seen, order, flags, qualities, columns, shown, shown_in_order, reverse, orientation)
    base_quality, mapping_quality, end_distance, departures = columns
    nearer = seen[order, 6]
    return ReadEvidence(
        rows[order],
        shown_in_order,
        base_quality,
        mapping_quality,
        reverse,
        orientation,
        end_distance,
        departures,
        (nearer > 0) & ((nearer == RIGHT) != reverse),
    )


def _shared(candidates: Candidates, counts: np.ndarray, reference: np.ndarray, start: int) -> np.ndarray:
    shared = np.zeros(len(counts), np.uint8)
    last = candidates.position + candidates.shift + np.maximum(-candidates.gained, 0) + 1
    rows = np.unique(np.concatenate([candidates.position, last])) - start
    kernels.mark_shared(counts, reference, rows, LEAST_SHARED_READS, LEAST_SHARED, shared)
    return shared


def _snp_evidence(
    records: Records, candidates: Candidates, rows: np.ndarray, fits: Fits, places: Places
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions, place = np.unique(candidates.position[rows], return_inverse=True)
    seen = _observe(kernels.observe_positions, records, places, positions.astype(np.int64))
    seen = seen[~fits.hides(seen[:, 1], positions[seen[:, 0]])]
    kept, begins = one_per_fragment(seen, records.mates, len(positions), 3)
    seen = seen[kept]
    refs, alts = candidates.bases[rows].T.astype(np.int64)
    # Every candidate of a position gets that position's observations.
    count = int((begins[place + 1] - begins[place]).sum())
    candidate, shown, row = (np.empty(count, np.int64) for _ in range(3))
    compare_bases(seen, begins, place, refs, alts, MIN_FRACTION, candidate, shown, row)
    return rows[candidate], shown, seen[row]


def _indel_evidence(
    records: Records, candidates: Candidates, rows: np.ndarray, fits: Fits, places: Places
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lefts = candidates.position[rows]
    lengths = np.maximum(1 - candidates.gained[rows], 1)
    rights = lefts + candidates.shift[rows] + lengths
    seen = _observe(kernels.observe_spans, records, places, lefts, rights)
    keys = rows[seen[:, 0]] * max(len(records), 1) + seen[:, 1]
    carriers = candidates.support[:, 0] * max(len(records), 1) + candidates.support[:, 1]
    seen[:, 2] = np.where(np.isin(keys, carriers), ALT, np.where(seen[:, 2] == 1, OTHER, REF))
    fitting = fits.candidate * max(len(records), 1) + fits.record
    seen = np.concatenate([seen[~np.isin(keys, fitting)], _fitting(fits, rows)])
    seen = seen[np.argsort(seen[:, 1], kind="stable")]
    kept, _ = one_per_fragment(seen, records.mates, len(rows), 4)
    seen = seen[kept]
    return rows[seen[:, 0]], seen[:, 2].astype(np.int64), seen


def _fitting(fits: Fits, rows: np.ndarray) -> np.ndarray:
    """Return what `observe_spans` would have, of reads that only fit an indel of `rows`; column 2 is what they show."""
    own = np.flatnonzero(fits.candidate >= 0)
    seen = np.zeros((len(own), kernels.COLUMNS), np.int32)
    seen[:, 0] = np.searchsorted(rows, fits.candidate[own])
    seen[:, 1] = fits.record[own]
    seen[:, 2] = np.where(fits.gain[own] > 0, ALT, OTHER)
    seen[:, 3] = np.minimum(fits.gain[own], _HIGHEST_QUALITY)
    seen[:, 4] = fits.bases[own]
    return seen


def _observe(kernel: Callable[..., int], records: Records, where: Places, *places: Any) -> np.ndarray:
    seen = np.empty((_EXPECTED_DEPTH * len(places[-1]), kernels.COLUMNS), np.int32)
    count = kernel(records.buffer, records.table, *where, *places, seen)
    if count > len(seen):
        seen = np.empty((count, kernels.COLUMNS), np.int32)
        kernel(records.buffer, records.table, *where, *places, seen)
    return seen[:count]
