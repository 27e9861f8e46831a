"""Loops that sum up what reads show at each position, base by base."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    DELETION,
    END,
    INSERTION,
    LENGTH,
    MAPPING_QUALITY,
    MIN_BASE_QUALITY,
    NAME,
    POSITION,
    QUALITIES,
    SEQUENCE,
    SKIP,
    SOFT_CLIP,
    base_at,
    is_aligned,
    quality_at,
    u32,
)

_MOST = 65_535  # of a sum of qualities, uint16
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a
_KINDS, _SHORT = 6, 30  # qualities of fewer values, and shorter reads, may be equal by chance


@kernel
def sum_bases(
    buffer: np.ndarray,
    table: np.ndarray,
    mates: np.ndarray,
    start: int,
    cap: int,
    counts: np.ndarray,
    qualities: np.ndarray,
) -> None:
    """Count the bases that aligned reads show per position, and sum their qualities.

    Parameters
    ----------
    buffer, table, mates : as from `index_records` and `pair_mates`
    start : position of row 0 of `counts`
    cap : largest quality of a base; a base counts as no better than its read's mapping quality
    counts : uint16, shape (positions, 4), added to; columns A, C, G, T. Where the two reads of a fragment overlap,
        the first in the file counts alone.
    qualities : uint16, shape (positions, 4), added to: sum of the counted bases' qualities, Phred
    """
    positions = len(counts)
    for row in range(len(table)):
        mate = mates[row]
        told_start, told_end = positions, positions
        if 0 <= mate < row:
            told_start, told_end = table[mate, POSITION] - start, table[mate, END] - start
        mapping = table[row, MAPPING_QUALITY]
        best = min(cap, 30 if mapping == 255 else mapping)
        at, within = table[row, POSITION] - start, 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                for step in range(max(0, -at), min(size, positions - at)):
                    place = at + step
                    if told_start <= place < told_end:
                        continue
                    base = base_at(buffer, table, row, within + step)
                    quality = quality_at(buffer, table, row, within + step)
                    if base > 3 or quality < MIN_BASE_QUALITY:
                        continue
                    quality = min(quality, best)
                    if counts[place, base] < _MOST and qualities[place, base] <= _MOST - quality:
                        counts[place, base] += 1
                        qualities[place, base] += quality
                at += size
                within += size
            elif operation == DELETION or operation == SKIP:
                at += size
            elif operation == INSERTION or operation == SOFT_CLIP:
                within += size


@kernel
def hash_reads(buffer: np.ndarray, table: np.ndarray, hashes: np.ndarray) -> None:
    """Hash each read by its name and sequence, and by its sequence and qualities.

    Parameters
    ----------
    buffer, table : as from `index_records`
    hashes : uint64, shape (2, reads), written. 0 where there is nothing to tell reads apart by: the second row for
        reads whose qualities have fewer than `_KINDS` values, or that are short.
    """
    seen = np.zeros(256, np.bool_)
    for row in range(len(table)):
        length = table[row, LENGTH]
        sequence = table[row, SEQUENCE]
        value = _OFFSET
        for k in range((length + 1) // 2):
            value = (value ^ np.uint64(buffer[sequence + k])) * _PRIME
        named, at = value, table[row, NAME]
        while buffer[at] != 0:
            named = (named ^ np.uint64(buffer[at])) * _PRIME
            at += 1
        qualities, kinds = table[row, QUALITIES], 0
        seen[:] = False
        for k in range(length):
            quality = buffer[qualities + k]
            value = (value ^ np.uint64(quality)) * _PRIME
            if not seen[quality]:
                seen[quality] = True
                kinds += 1
        hashes[0, row] = _mix(named)
        hashes[1, row] = _mix(value) if kinds >= _KINDS and length >= _SHORT else np.uint64(0)


@kernel
def _mix(value: np.uint64) -> np.uint64:
    """Spread a hash over all bits, so that the smallest hashes are a random draw (finaliser of MurmurHash3)."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))
