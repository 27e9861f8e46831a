"""Count bases and mismatches by quality and place in the read."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.base_qualities.quality_kernels import class_of
from fedcall.genomics.base_qualities.read_places import HIGHEST
from fedcall.genomics.reads.packed_reference_kernels import LEAP, pack_pairs
from fedcall.genomics.reads.record_fields import (
    BASE,
    CIGAR,
    CIGAR_OPS,
    DELETION,
    FLAG,
    INSERTION,
    LENGTH,
    MAPPING_QUALITY,
    MIN_BASE_QUALITY,
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

ALONE = 10
"""A base counts if its read shows no other mismatch and no gap within so many bases: misaligned reads bring many."""


@kernel
def mark_usable(
    counts: np.ndarray, reference: np.ndarray, fewest: int, supported: np.ndarray, usable: np.ndarray
) -> None:
    """Mark the positions where a mismatch is an error, most likely: no allele has support, and no read a gap.

    Parameters
    ----------
    counts : int32, shape (positions, 18), from `count_channels`
    reference : uint8, 0..3 = ACGT, 4 = other
    fewest : reads a position must have; of fewer, too many heterozygous sites look like one error
    supported : int64, by number of reads: so many that show one other base are a candidate
    usable : uint8, shape (positions,), written: number of reads there, at most 255; 0 where it is not usable
    """
    for at in range(len(counts)):
        usable[at] = 0
        if reference[at] > 3:
            continue
        depth = 0
        for base in range(4):
            depth += counts[at, base] + counts[at, 9 + base]
        if depth < fewest:
            continue
        gaps = counts[at, 4] + counts[at, 6] + counts[at, 8] + counts[at, 13] + counts[at, 15] + counts[at, 17]
        least = supported[min(depth, len(supported) - 1)]
        alone = gaps == 0
        for base in range(4):
            if base != reference[at] and counts[at, base] + counts[at, 9 + base] >= least:
                alone = False
        if alone:
            usable[at] = min(depth, 255)


@kernel
def count_mismatches(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    usable: np.ndarray,
    expected: np.ndarray,
    lowest_mapping: int,
    class_of_distance: np.ndarray,
    bases: np.ndarray,
    mismatches: np.ndarray,
    variants: np.ndarray,
) -> None:
    """Count, as sequenced (reverse reads complemented), what reads show where a mismatch is an error, most likely.

    Parameters
    ----------
    reference, usable : uint8, shape (positions,), from position `start` on; `usable` from `mark_usable`
    expected : float64, by number of reads: share of the bases there that are a variant's and have no support
    lowest_mapping : reads of lower mapping quality are passed over
    bases : int64, shape (qualities, mates, classes, 4 reference bases), added to
    mismatches : int64, shape (qualities, mates, classes, 4 reference bases, 4 bases shown), added to
    variants : float64, shape of `bases`, added to: bases times `expected`
    """
    wrong = np.empty(4096, np.int64)
    pairs = pack_pairs(reference)
    for row in range(len(table)):
        if table[row, MAPPING_QUALITY] < lowest_mapping:
            continue
        flag, length = table[row, FLAG], table[row, LENGTH]
        reverse = flag & 16 != 0
        mate = 1 if flag & 1 and flag & 128 else 0
        sequence, qualities = table[row, SEQUENCE], table[row, QUALITIES]
        if length == 0 or u8(buffer, qualities) == 255:
            continue
        found = _list_departures(buffer, table, row, reference, start, pairs, wrong)
        r, q, nearest = table[row, POSITION] - start, 0, 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                for at in range(max(0, -r), min(size, len(reference) - r)):
                    here = q + at
                    depth = usable[r + at]
                    quality = u8(buffer, qualities + here)
                    if depth == 0 or quality < MIN_BASE_QUALITY:
                        continue
                    true = u8(reference, r + at)
                    if found > 0:
                        while nearest < found and wrong[nearest] < here - ALONE:
                            nearest += 1
                        others, other = 0, nearest
                        while other < found and wrong[other] <= here + ALONE:
                            others += wrong[other] != here
                            other += 1
                        if others > 0:
                            continue
                    byte = u8(buffer, sequence + (here >> 1))
                    base = BASE[byte >> 4 if here & 1 == 0 else byte & 15]
                    if base > 3:
                        continue
                    place = class_of(here, length, reverse, class_of_distance)
                    if reverse:
                        true, base = 3 - true, 3 - base
                    kept = min(quality, HIGHEST)
                    bases[kept, mate, place, true] += 1
                    variants[kept, mate, place, true] += expected[depth]
                    if base != true:
                        mismatches[kept, mate, place, true, base] += 1
                r += size
                q += size
            elif operation == INSERTION or operation == SOFT_CLIP:
                q += size
            elif operation == DELETION or operation == SKIP:
                r += size


@kernel
def _list_departures(
    buffer: np.ndarray,
    table: np.ndarray,
    row: int,
    reference: np.ndarray,
    start: int,
    pairs: np.ndarray,
    wrong: np.ndarray,
) -> int:
    """Write where a read departs from the reference, ascending: offsets of its mismatches, and beside gaps and clips.

    Returns
    -------
    number of offsets written, at most `len(wrong)`
    """
    found, half = 0, len(pairs) // 2
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
                differs = base < 4 and base != reference[at] and reference[at] < 4
                if differs and buffer[qualities + here] >= MIN_BASE_QUALITY and found < len(wrong):
                    wrong[found] = here
                    found += 1
                at += 1
            r += size
            q += size
        elif operation == INSERTION or operation == SOFT_CLIP:
            # Bases that are not aligned stand for the gap or clip: the first and the last of them.
            for here in (q, q + size - 1):
                if found < len(wrong):
                    wrong[found] = here
                    found += 1
            q += size
        elif operation == DELETION or operation == SKIP:
            # No base stands for it; those on both sides see each other.
            for here in (q - 1, q):
                if found < len(wrong):
                    wrong[found] = here
                    found += 1
            r += size
    return found
