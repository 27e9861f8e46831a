"""What each fragment shows about a candidate, in 32 bits: what a likelihood with other constants needs of the reads.

From the lowest bit: what is shown (2 bits: reference, candidate, a third allele, anything else), reverse strand (1),
orientation of the fragment plus one (2: F2R1, unpaired, F1R2), base quality (6), mapping quality (6), distance to the
nearer end of the aligned part of the read (5), departures from the reference nearby (3), whether that end is the 3' end
as the read was sequenced (1; 0 for indels); each capped at what its bits hold. No bit tells where in the genome the
candidate lies.
"""

from typing import NamedTuple

import numpy as np

SHIFTS = {
    "shown": 0,
    "reverse": 2,
    "orientation": 3,
    "base_quality": 5,
    "mapping_quality": 11,
    "end": 17,
    "off": 22,
    "three": 25,
}
"""Where each value begins; `off` are the departures."""
BITS = {
    "shown": 2,
    "reverse": 1,
    "orientation": 2,
    "base_quality": 6,
    "mapping_quality": 6,
    "end": 5,
    "off": 3,
    "three": 1,
}
REPEAT = ("period", "tract", "entangled")
"""Columns of `Examples.repeats`: bases of the motif that an indel repeats, bases of the repeat, and whether reads show
the indel mostly together with another gap; 0 for SNPs."""
_LARGEST = 255


class Observed(NamedTuple):
    """Columns of equal length, one row per fragment and candidate (`pileup.evidence.ReadEvidence` explains them)."""

    shown: np.ndarray
    reverse: np.ndarray
    orientation: np.ndarray
    base_quality: np.ndarray
    mapping_quality: np.ndarray
    end: np.ndarray
    off: np.ndarray
    three: np.ndarray


def pack(observed: Observed) -> np.ndarray:
    """Return the packed fragments: uint32, shape (m,)."""
    packed = np.zeros(len(observed.shown), np.uint32)
    for name, column in observed._replace(orientation=observed.orientation.astype(np.int64) + 1)._asdict().items():
        largest = (1 << BITS[name]) - 1
        packed |= np.clip(column, 0, largest).astype(np.uint32) << np.uint32(SHIFTS[name])
    return packed


def unpack(packed: np.ndarray) -> Observed:
    """Return what `pack` was given, capped: int64 columns."""
    values = packed.astype(np.int64)
    columns = Observed(**{name: values >> SHIFTS[name] & (1 << BITS[name]) - 1 for name in Observed._fields})
    return columns._replace(orientation=columns.orientation - 1)


def pack_repeats(period: np.ndarray, tract: np.ndarray, entangled: np.ndarray) -> np.ndarray:
    """Return the columns of `REPEAT`: uint8, shape (n, 3)."""
    columns: np.ndarray = np.minimum(np.stack([period, tract, entangled], 1), _LARGEST).astype(np.uint8)
    return columns
