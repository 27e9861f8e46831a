"""Count what reads show at every position, and list the indels their CIGARs hold."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.packed_reference_kernels import LEAP, pack_pairs
from fedcall.genomics.reads.record_fields import (
    BASE,
    CIGAR,
    CIGAR_OPS,
    DELETED,
    DELETION,
    END,
    FLAG,
    INSERTION,
    MIN_BASE_QUALITY,
    POSITION,
    QUALITIES,
    SEQUENCE,
    SKIP,
    SOFT_CLIP,
    base_at,
    is_aligned,
    quality_at,
    u8,
    u32,
    u64,
)

_INSERTION_AFTER, _DELETION_AFTER = 1, 2
_BIN = 256
_STRAND = 9
"""Channels per strand: A, C, G, T, I, I1, D, D1, *."""
_TOP_BITS = np.uint64(0x8080_8080_8080_8080)
_LEAST_QUALITIES = np.uint64(MIN_BASE_QUALITY * 0x0101_0101_0101_0101)


@kernel
def most_reads(table: np.ndarray, start: int, end: int) -> int:
    """Return at least as many reads as lie over any position of [start, end), from `table` of `index_records`."""
    bins = np.zeros((end - start + _BIN - 1) // _BIN + 1, np.int64)
    for row in range(len(table)):
        first, last = max(table[row, POSITION], start) - start, min(table[row, END], end - 1) - start
        for place in range(first // _BIN, last // _BIN + 1):
            bins[place] += 1
    most: int = bins.max()
    return most


@kernel
def count_channels(
    buffer: np.ndarray,
    table: np.ndarray,
    mates: np.ndarray,
    reference: np.ndarray,
    start: int,
    counts: np.ndarray,
    events: np.ndarray,
) -> int:
    """Count the 18 channels per position, and list the indels a read shows between aligned bases.

    Most bases are good and equal the reference: an aligned stretch counts as such where it begins and ends, and only
    the bases that are not are looked at one by one.

    Parameters
    ----------
    buffer, table, mates : as from `index_records` and `pair_mates`
    reference : uint8, shape (positions,); 0..3 = ACGT, 4 = other
    start : position of row 0 of `counts`
    counts : int16 or int32, shape (positions, 18), added to. Where the two reads of a fragment overlap, the better base
        counts.
    events : int64, shape (indels, 4), written: record, position of the base before, length (negative for deletions),
        offset of the first inserted base in the read

    Returns
    -------
    number of events written
    """
    found, positions = 0, len(counts)
    pairs = pack_pairs(reference)
    cover = np.zeros((2, positions + 1), np.int32)
    longest = 1
    for row in range(len(table)):
        if mates[row] >= 0:
            longest = max(longest, table[row, END] - table[row, POSITION])
    mate_bases = np.empty(longest, np.uint8)
    mate_qualities = np.empty(longest, np.uint8)
    mate_marks = np.empty(longest, np.uint8)
    for row in range(len(table)):
        mate = mates[row]
        # Without a mate to compare with, its stretch is empty and lies behind everything.
        mate_start, mate_end = positions, positions
        if mate >= 0:
            mate_start = table[mate, POSITION] - start
            mate_end = mate_start + _spell(buffer, table, mate, mate_bases, mate_qualities, mate_marks)
        second = mate >= 0 and mate < row
        strand = 1 if table[row, FLAG] & 16 else 0
        channel = strand * _STRAND
        r, q, aligned_before = table[row, POSITION] - start, 0, False
        operations = table[row, CIGAR_OPS]
        for k in range(operations):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                first, last = max(0, r), min(r + size, positions)
                before, behind = min(last, mate_start), max(first, mate_end)
                sequence, qualities = table[row, SEQUENCE], table[row, QUALITIES]
                for low, high in ((first, before), (behind, last)):
                    if low < high:
                        cover[strand, low] += 1
                        cover[strand, high] -= 1
                        _correct(buffer, sequence, qualities, q - r, low, high, pairs, reference, channel, counts)
                for at in range(max(first, mate_start), min(last, mate_end)):
                    base = base_at(buffer, table, row, q + at - r)
                    quality = quality_at(buffer, table, row, q + at - r)
                    if base > 3 or quality < MIN_BASE_QUALITY:
                        continue
                    if mate_bases[at - mate_start] < 4:
                        better = mate_qualities[at - mate_start]
                        if better > quality or (better == quality and second):
                            continue
                    counts[at, channel + base] += 1
                r += size
                q += size
                aligned_before = size > 0
            elif operation == INSERTION or operation == DELETION:
                at = r - 1
                mark = _INSERTION_AFTER if operation == INSERTION else _DELETION_AFTER
                counted = second and mate_start <= at < mate_end and mate_marks[at - mate_start] & mark
                anchored = aligned_before if operation == INSERTION else r + start > table[row, POSITION]
                if anchored and 0 < r <= positions:
                    if not counted:
                        kind = channel + (4 if operation == INSERTION else 6)
                        counts[at, kind] += 1
                        if size == 1:
                            counts[at, kind + 1] += 1
                    # Of both mates, for it says what each of them shows.
                    if aligned_before and k + 1 < operations:
                        following = u32(buffer, table[row, CIGAR] + 4 * (k + 1)) & 15
                        if is_aligned(following):
                            events[found, 0] = row
                            events[found, 1] = at + start
                            events[found, 2] = size if operation == INSERTION else -size
                            events[found, 3] = q
                            found += 1
                if operation == INSERTION:
                    q += size
                else:
                    for at in range(max(0, r), min(r + size, positions)):
                        if not (second and mate_start <= at < mate_end and mate_bases[at - mate_start] == DELETED):
                            counts[at, channel + 8] += 1
                    r += size
                    aligned_before = False
            elif operation == SKIP:
                r += size
                aligned_before = False
            elif operation == SOFT_CLIP:
                q += size
                aligned_before = False
    _add_cover(cover, reference, counts)
    return found


@kernel
def _correct(
    buffer: np.ndarray,
    sequence: int,
    qualities: int,
    shift: int,
    low: int,
    high: int,
    pairs: np.ndarray,
    reference: np.ndarray,
    channel: int,
    counts: np.ndarray,
) -> None:
    """Move what is not a good reference base in [low, high) to where it counts; read offset = row + `shift`."""
    at, half = low, pairs.size // 2
    while at < high:
        here = at + shift
        last = min(at + LEAP, high)
        if here & 1:
            last = at + 1
        elif at + LEAP <= high or (high - LEAP > low and at + 1 < high):
            # Of a rest, the leap that ends with it: some of it was looked at before.
            leap = min(at, high - LEAP - (high + shift & 1))
            # Unsigned, because every signed index would be tested for being negative.
            own = np.uint64(sequence + (leap + shift >> 1))
            expected = np.uint64((leap & 1) * half + (leap >> 1))
            quality = np.uint64(qualities + leap + shift)
            if u64(buffer, own) == u64(pairs, expected):
                good = (u64(buffer, quality) | _TOP_BITS) - _LEAST_QUALITIES
                good &= (u64(buffer, quality + np.uint64(8)) | _TOP_BITS) - _LEAST_QUALITIES
                if good & _TOP_BITS == _TOP_BITS:
                    at = leap + LEAP
                    continue
        while at < last:
            here = at + shift
            byte = u8(buffer, sequence + (here >> 1))
            base = BASE[byte >> 4 if here & 1 == 0 else byte & 15]
            usable = base < 4 and buffer[qualities + here] >= MIN_BASE_QUALITY
            if not usable or base != reference[at]:
                if reference[at] < 4:
                    counts[at, channel + reference[at]] -= 1
                if usable:
                    counts[at, channel + base] += 1
            at += 1


@kernel
def _add_cover(cover: np.ndarray, reference: np.ndarray, counts: np.ndarray) -> None:
    forward = reverse = 0
    for at in range(len(counts)):
        forward += cover[0, at]
        reverse += cover[1, at]
        if reference[at] < 4:
            counts[at, reference[at]] += forward
            counts[at, _STRAND + reference[at]] += reverse


@kernel
def _spell(
    buffer: np.ndarray, table: np.ndarray, row: int, bases: np.ndarray, qualities: np.ndarray, marks: np.ndarray
) -> int:
    """Write base, quality and following indels of a read per reference position from its start."""
    span: int = table[row, END] - table[row, POSITION]
    bases[:span] = 15
    marks[:span] = 0
    r, q, aligned_before = 0, 0, False
    for k in range(table[row, CIGAR_OPS]):
        value = u32(buffer, table[row, CIGAR] + 4 * k)
        operation, size = value & 15, value >> 4
        if is_aligned(operation):
            for j in range(size):
                quality = quality_at(buffer, table, row, q + j)
                if quality >= MIN_BASE_QUALITY:
                    bases[r + j] = base_at(buffer, table, row, q + j)
                    qualities[r + j] = quality
            r += size
            q += size
            aligned_before = size > 0
        elif operation == INSERTION:
            if aligned_before:
                marks[r - 1] |= _INSERTION_AFTER
            q += size
        elif operation == DELETION:
            if r > 0:
                marks[r - 1] |= _DELETION_AFTER
            bases[r : r + size] = DELETED
            r += size
            aligned_before = False
        elif operation == SKIP:
            r += size
            aligned_before = False
        elif operation == SOFT_CLIP:
            q += size
            aligned_before = False
    return span
