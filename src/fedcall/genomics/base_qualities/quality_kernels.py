"""Write lower qualities into reads."""

import numpy as np

from fedcall.compiled import inlined, kernel
from fedcall.genomics.base_qualities.read_places import CLASSES, END_STARTS, INTERIOR
from fedcall.genomics.reads.packed_reference_kernels import LEAP, pack_pairs
from fedcall.genomics.reads.record_fields import (
    BASE,
    CIGAR,
    CIGAR_OPS,
    DELETION,
    FLAG,
    INSERTION,
    LENGTH,
    POSITION,
    QUALITIES,
    SEQUENCE,
    SKIP,
    SOFT_CLIP,
    is_aligned,
    u8,
    u32,
    u64,
)

_STEPS, _LAST_CLASS = len(END_STARTS), CLASSES - 1


@inlined
def class_of(distance: int, length: int, reverse: bool, class_of_distance: np.ndarray) -> int:
    """Return the class of places (`read_places`) of base `distance` of a read of `length` bases, as stored."""
    five = length - 1 - distance if reverse else distance
    three = length - 1 - five
    if min(five, three) >= INTERIOR:
        return _LAST_CLASS
    return u8(class_of_distance, five) if five <= three else _STEPS + u8(class_of_distance, three)


@kernel
def write_qualities(buffer: np.ndarray, table: np.ndarray, used: np.ndarray) -> None:
    """Replace the quality of every base by that which `used` (uint8, shape (256,)) has for it."""
    for row in range(len(table)):
        first = table[row, QUALITIES]
        own = buffer[first : first + table[row, LENGTH]]
        for at in range(len(own)):
            own[at] = used[own[at]]


@kernel
def write_damage(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    class_of_distance: np.ndarray,
    damaged: np.ndarray,
) -> None:
    """Lower the quality of mismatches that damage explains.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    damaged : uint8, shape (mates, classes, 4 reference bases, 4 bases shown, 256 qualities), as sequenced
    """
    pairs = pack_pairs(reference)
    half = len(pairs) // 2
    for row in range(len(table)):
        flag, length = table[row, FLAG], table[row, LENGTH]
        reverse = flag & 16 != 0
        mate = 1 if flag & 1 and flag & 128 else 0
        sequence, qualities = table[row, SEQUENCE], table[row, QUALITIES]
        r, q = table[row, POSITION] - start, 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                at, last = max(0, r), min(r + size, len(reference))
                while at < last:
                    here = at - r + q
                    if here & 1 == 0 and at + LEAP <= last:
                        own = np.uint64(sequence + (here >> 1))
                        if u64(buffer, own) == u64(pairs, np.uint64((at & 1) * half + (at >> 1))):
                            at += LEAP
                            continue
                    byte = u8(buffer, sequence + (here >> 1))
                    base = BASE[byte >> 4 if here & 1 == 0 else byte & 15]
                    true = reference[at]
                    if base < 4 and true < 4 and base != true:
                        place = class_of(here, length, reverse, class_of_distance)
                        if reverse:
                            true, base = 3 - true, 3 - base
                        buffer[qualities + here] = damaged[mate, place, true, base, buffer[qualities + here]]
                    at += 1
                r += size
                q += size
            elif operation == INSERTION or operation == SOFT_CLIP:
                q += size
            elif operation == DELETION or operation == SKIP:
                r += size
