"""The reference as BAM packs bases, to compare sixteen of them with a read's at a time."""

import numpy as np

from fedcall.compiled import kernel

LEAP = 16
"""Bases in eight bytes."""
# 0..3 = ACGT to BAM's four-bit codes; anything else to "=", which no base counted here has.
_PACKED = np.array([1, 2, 4, 8, 0], np.uint8)


@kernel
def pack_pairs(reference: np.ndarray) -> np.ndarray:
    """Pack each base of the reference with the one behind it, as BAM packs a read's: pairs from even, then odd places.

    The pair at position p stands at p >> 1, for odd p half of the array's length further on.
    """
    half = len(reference) // 2 + 8
    pairs = np.zeros(2 * half, np.uint8)
    for at in range(len(reference)):
        pair = _PACKED[reference[at]] << 4
        if at + 1 < len(reference):
            pair |= _PACKED[reference[at + 1]]
        pairs[(at & 1) * half + (at >> 1)] = pair
    return pairs
