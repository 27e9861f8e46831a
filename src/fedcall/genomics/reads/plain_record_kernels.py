"""Loops that take "=" out of sequences, and gaps beside gaps, padding and empty operations out of CIGARs."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    DELETION,
    INSERTION,
    MATCH,
    PADDING,
    POSITION,
    SEQUENCE,
    SKIP,
    SOFT_CLIP,
    base_at,
    is_aligned,
    u8,
    u32,
)

_PACKED = np.array([1, 2, 4, 8, 15], np.uint8)
"""0..3 = ACGT and 4 = other to BAM's four-bit codes."""


@kernel
def write_plain_bases(buffer: np.ndarray, table: np.ndarray, reference: np.ndarray, start: int) -> None:
    """Write the reference's bases over "=" where reads are aligned; outside the reference and elsewhere N."""
    for row in range(len(table)):
        r, q = table[row, POSITION] - start, 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            aligned = is_aligned(operation)
            if aligned or operation == INSERTION or operation == SOFT_CLIP:
                for j in range(size):
                    at = table[row, SEQUENCE] + ((q + j) >> 1)
                    byte = u8(buffer, at)
                    shift = 4 if (q + j) & 1 == 0 else 0
                    if byte >> shift & 15 == 0:
                        known = aligned and 0 <= r + j < len(reference)
                        buffer[at] = byte | _PACKED[reference[r + j] if known else 4] << shift
                q += size
            if aligned or operation == DELETION or operation == SKIP:
                r += size


@kernel
def write_plain_cigars(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    longest: int,
    place: int,
    out: np.ndarray,
) -> int:
    """Write the CIGARs anew that have gaps beside gaps, padding or empty operations, and note where they will stand.

    Parameters
    ----------
    table : as from `index_records`; CIGAR and CIGAR_OPS are changed
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    longest : gaps beside each other that have more bases in common stay as they are
    place : where `out` will stand in the buffer
    out : uint32, as long as all CIGARs together, written

    Returns
    -------
    number of operations written
    """
    total = 0
    for row in range(len(table)):
        first, operations = table[row, CIGAR], table[row, CIGAR_OPS]
        if _is_plain(buffer, first, operations):
            continue
        begin, r, q, aligned, k = total, table[row, POSITION] - start, 0, False, 0
        while k < operations:
            value = u32(buffer, first + 4 * k)
            operation, size = value & 15, value >> 4
            if operation != INSERTION and operation != DELETION:
                if is_aligned(operation):
                    total = _add(out, begin, total, MATCH, size)
                    aligned |= size > 0
                elif operation != PADDING:
                    total = _add(out, begin, total, operation, size)
                if is_aligned(operation) or operation == SOFT_CLIP:
                    q += size
                if is_aligned(operation) or operation == SKIP:
                    r += size
                k += 1
                continue
            inserted, deleted, inserted_first = 0, 0, operation == INSERTION
            followed = False
            while k < operations:
                value = u32(buffer, first + 4 * k)
                operation, size = value & 15, value >> 4
                if operation == INSERTION:
                    inserted += size
                elif operation == DELETION:
                    deleted += size
                elif operation != PADDING and size > 0:
                    followed = is_aligned(operation)
                    break
                k += 1
            common = min(inserted, deleted)
            if 0 < common <= longest and aligned and followed:
                before = _before_gap(buffer, table, row, reference, q, r, inserted, deleted)
                total = _add(out, begin, total, MATCH, before)
                total = _add(out, begin, total, INSERTION, inserted - common)
                total = _add(out, begin, total, DELETION, deleted - common)
                total = _add(out, begin, total, MATCH, common - before)
            elif inserted_first:
                total = _add(out, begin, total, INSERTION, inserted)
                total = _add(out, begin, total, DELETION, deleted)
            else:
                total = _add(out, begin, total, DELETION, deleted)
                total = _add(out, begin, total, INSERTION, inserted)
            q += inserted
            r += deleted
        table[row, CIGAR] = place + 4 * begin
        table[row, CIGAR_OPS] = total - begin
    return total


@kernel
def _is_plain(buffer: np.ndarray, first: int, operations: int) -> bool:
    was_gap = False
    for k in range(operations):
        value = u32(buffer, first + 4 * k)
        operation = value & 15
        is_gap = operation == INSERTION or operation == DELETION
        if value >> 4 == 0 or operation == PADDING or (is_gap and was_gap):
            return False
        was_gap = is_gap
    return True


@kernel
def _add(out: np.ndarray, begin: int, total: int, operation: int, size: int) -> int:
    """Write an operation behind those in [begin, total), or lengthen the last, and return the new end."""
    if size == 0:
        return total
    if total > begin and out[total - 1] & 15 == operation:
        out[total - 1] += size << 4
        return total
    out[total] = size << 4 | operation
    return total + 1


@kernel
def _before_gap(
    buffer: np.ndarray,
    table: np.ndarray,
    row: int,
    reference: np.ndarray,
    q: int,
    r: int,
    inserted: int,
    deleted: int,
) -> int:
    """Return how many of the bases in common to lay before the gap that is left: where most match, and the fewest."""
    common = min(inserted, deleted)
    score = best = before = 0
    for k in range(common):
        score += _matches(buffer, table, row, reference, q + k, r + k)
        score -= _matches(buffer, table, row, reference, q + k + inserted - common, r + k + deleted - common)
        if score > best:
            best, before = score, k + 1
    return before


@kernel
def _matches(buffer: np.ndarray, table: np.ndarray, row: int, reference: np.ndarray, q: int, r: int) -> int:
    return 1 if 0 <= r < len(reference) and base_at(buffer, table, row, q) == reference[r] else 0
