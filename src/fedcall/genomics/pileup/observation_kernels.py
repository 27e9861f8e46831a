"""List what reads show at the places of candidates."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    DELETED,
    DELETION,
    END,
    HEAD,
    INSERTION,
    LENGTH,
    MIN_BASE_QUALITY,
    MISSING_QUALITY,
    POSITION,
    SKIP,
    SOFT_CLIP,
    TAIL,
    base_at,
    is_aligned,
    quality_at,
    u32,
)

NEARBY = 10
# What an operation next to a base adds to the read's departures: I and D 2, S 1.
_DEPARTURE = np.array([0, 2, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.int64)


@kernel
def observe_positions(
    buffer: np.ndarray, table: np.ndarray, reference: np.ndarray, start: int, positions: np.ndarray, out: np.ndarray
) -> int:
    """List what every read shows at some positions.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    positions : int64, sorted
    out : int32, shape (capacity, 6), written up to its capacity: index of the position, record, base (0..3 = ACGT,
        4 = deleted), base quality, distance to the nearer end of the aligned part of the read in bases, and how much
        the read departs from the reference within `NEARBY` bases: mismatches, plus 2 for an indel, plus 1 for clipping

    Returns
    -------
    number of observations there are
    """
    found = next_place = 0
    for row in range(len(table)):
        r, q = table[row, POSITION], 0
        # Reads come in the order of their positions, mostly.
        while next_place > 0 and positions[next_place - 1] >= r:
            next_place -= 1
        while next_place < len(positions) and positions[next_place] < r:
            next_place += 1
        c = next_place
        if c == len(positions) or positions[c] >= table[row, END]:
            continue
        last = table[row, LENGTH] - table[row, TAIL] - 1
        before = 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                while c < len(positions) and positions[c] < r + size:
                    at = q + positions[c] - r
                    base = base_at(buffer, table, row, at)
                    quality = quality_at(buffer, table, row, at)
                    if base < 4 and quality >= MIN_BASE_QUALITY:
                        if found < len(out):
                            out[found, 0] = c
                            out[found, 1] = row
                            out[found, 2] = base
                            out[found, 3] = quality
                            out[found, 4] = min(at - table[row, HEAD], last - at)
                            here = positions[c]
                            departures = _mismatches_between(
                                buffer,
                                table,
                                row,
                                reference,
                                start,
                                q - r,
                                max(r, here - NEARBY),
                                min(r + size, here + NEARBY + 1),
                                here,
                            )
                            if here - r < NEARBY:
                                departures += before
                            if r + size - 1 - here < NEARBY and k + 1 < table[row, CIGAR_OPS]:
                                departures += _DEPARTURE[u32(buffer, table[row, CIGAR] + 4 * (k + 1)) & 15]
                            out[found, 5] = departures
                        found += 1
                    c += 1
                r += size
                q += size
            elif operation == DELETION or operation == SKIP:
                while c < len(positions) and positions[c] < r + size:
                    if operation == DELETION:
                        if found < len(out):
                            out[found, 0] = c
                            out[found, 1] = row
                            out[found, 2] = DELETED
                            out[found, 3] = MISSING_QUALITY
                            out[found, 4] = min(q - table[row, HEAD], last - q + 1)
                            out[found, 5] = 0
                        found += 1
                    c += 1
                r += size
            elif operation == INSERTION or operation == SOFT_CLIP:
                q += size
            before = _DEPARTURE[operation]
    return found


@kernel
def _mismatches_between(
    buffer: np.ndarray,
    table: np.ndarray,
    row: int,
    reference: np.ndarray,
    start: int,
    offset: int,
    first: int,
    last: int,
    position: int,
) -> int:
    """Count usable mismatches in [first, last), save at `position`; read offset = reference position + `offset`."""
    count = 0
    for at in range(max(first, start), min(last, start + len(reference))):
        if at != position and reference[at - start] < 4:
            base = base_at(buffer, table, row, at + offset)
            differs = base < 4 and base != reference[at - start]
            count += differs and quality_at(buffer, table, row, at + offset) >= MIN_BASE_QUALITY
    return count


@kernel
def observe_spans(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    lefts: np.ndarray,
    rights: np.ndarray,
    out: np.ndarray,
) -> int:
    """List the reads that span some stretches of the reference.

    Parameters
    ----------
    reference, start : as for `observe_positions`
    lefts, rights : int64, `lefts` sorted; first and last position (inclusive) a read must cover with aligned bases
    out : int32, shape (capacity, 6), written up to its capacity: index of the stretch, record, 1 if the read has an
        insertion, deletion or skip inside the stretch else 0, mean base quality at the two ends, smaller number of
        bases the read is aligned beyond the two ends, departures in and around the stretch as for `observe_positions`

    Returns
    -------
    number of observations there are
    """
    found = next_place = 0
    for row in range(len(table)):
        first, end = table[row, POSITION], table[row, END]
        while next_place > 0 and lefts[next_place - 1] >= first:
            next_place -= 1
        while next_place < len(lefts) and lefts[next_place] < first:
            next_place += 1
        for c in range(next_place, len(lefts)):
            left, right = lefts[c], rights[c]
            if left >= end:
                break
            if right >= end:
                continue
            r, q, changed, covered, quality, before, departures = first, 0, 0, 0, 0, 0, 0
            for k in range(table[row, CIGAR_OPS]):
                value = u32(buffer, table[row, CIGAR] + 4 * k)
                operation, size = value & 15, value >> 4
                if is_aligned(operation):
                    if r <= left < r + size:
                        covered += 1
                        quality += quality_at(buffer, table, row, q + left - r)
                    if r <= right < r + size:
                        covered += 1
                        quality += quality_at(buffer, table, row, q + right - r)
                    if r <= left and right < r + size:
                        departures = before if left - r < NEARBY else 0
                        if r + size - 1 - right < NEARBY and k + 1 < table[row, CIGAR_OPS]:
                            departures += _DEPARTURE[u32(buffer, table[row, CIGAR] + 4 * (k + 1)) & 15]
                        departures += _mismatches_between(
                            buffer,
                            table,
                            row,
                            reference,
                            start,
                            q - r,
                            max(r, left - NEARBY),
                            min(r + size, right + NEARBY + 1),
                            -1,
                        )
                    r += size
                    q += size
                elif operation == INSERTION:
                    if left < r <= right:
                        changed = 1
                    q += size
                elif operation == DELETION or operation == SKIP:
                    if r <= right and r + size > left:
                        changed = 1
                    r += size
                elif operation == SOFT_CLIP:
                    q += size
                before = _DEPARTURE[operation]
            if covered == 2 or (covered > 0 and changed == 1):
                if found < len(out):
                    out[found, 0] = c
                    out[found, 1] = row
                    out[found, 2] = changed
                    out[found, 3] = quality // covered
                    out[found, 4] = min(left - first, end - 1 - right)
                    out[found, 5] = departures
                found += 1
    return found
