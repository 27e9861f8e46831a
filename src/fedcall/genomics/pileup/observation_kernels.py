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
COLUMNS = 7
"""Of what is listed of each read."""
LEFT, RIGHT = 1, 2
"""The nearer end of a read, by positions of the reference; 0 where it is not looked at."""
INSERTION_BIT, DELETION_BIT = 4, 5
"""Bits of `shared`, behind those of the four bases."""
_GAP, _CLIP = 2, 1
"""What a gap or a clipped end next to a base adds to the read's departures."""


@kernel
def mark_shared(
    counts: np.ndarray,
    reference: np.ndarray,
    rows: np.ndarray,
    least_reads: int,
    least_fraction: float,
    shared: np.ndarray,
) -> None:
    """Mark what many reads show within `NEARBY` bases of some rows: a read that shows it, too, does not depart by it.

    Parameters
    ----------
    counts : int16 or int32, shape (positions, 18), from `count_channels`
    reference : uint8, 0..3 = ACGT, 4 = other
    rows : int64, sorted
    least_reads, least_fraction : reads that must show the same, and their share of the reads there; one read fewer is
        enough where it is half of them
    shared : uint8, shape (positions,), zero, written: bits 0 to 3 for the bases, the reference's among them, 4 for an
        insertion and 5 for a deletion behind the position, of any length
    """
    done = 0
    for k in range(len(rows)):
        # Gaps stand at the base before them, which may lie one base further off.
        for at in range(max(done, rows[k] - NEARBY - 1), min(rows[k] + NEARBY + 1, len(counts))):
            depth = counts[at, 8] + counts[at, 17]
            for base in range(4):
                depth += counts[at, base] + counts[at, 9 + base]
            fewest = least_reads - 1 if depth <= 2 * (least_reads - 1) else least_reads
            least = max(fewest, least_fraction * depth)
            for base in range(4):
                if base == reference[at] or counts[at, base] + counts[at, 9 + base] >= least:
                    shared[at] |= 1 << base
            if counts[at, 4] + counts[at, 13] >= least:
                shared[at] |= 1 << INSERTION_BIT
            if counts[at, 6] + counts[at, 15] >= least:
                shared[at] |= 1 << DELETION_BIT
            done = at + 1


@kernel
def observe_positions(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    shared: np.ndarray,
    positions: np.ndarray,
    out: np.ndarray,
) -> int:
    """List what every read shows at some positions.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    shared : uint8, from `mark_shared`
    positions : int64, sorted
    out : int32, shape (capacity, COLUMNS), written up to its capacity: index of the position, record, base (0..3 =
        ACGT, 4 = deleted), base quality, distance to the nearer end of the aligned part of the read in bases, how much
        the read departs within `NEARBY` bases from the reference and from what is shared (mismatches, plus 2 for an
        indel, plus 1 for clipping), and LEFT or RIGHT, whichever end is nearer

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
            own = _departure(operation, r - 1 - start, shared)
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
                                shared,
                                q - r,
                                max(r, here - NEARBY),
                                min(r + size, here + NEARBY + 1),
                                here,
                            )
                            if here - r < NEARBY:
                                departures += before
                            if r + size - 1 - here < NEARBY and k + 1 < table[row, CIGAR_OPS]:
                                following = u32(buffer, table[row, CIGAR] + 4 * (k + 1)) & 15
                                departures += _departure(following, r + size - 1 - start, shared)
                            out[found, 5] = departures
                            out[found, 6] = LEFT if at - table[row, HEAD] <= last - at else RIGHT
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
                            out[found, 6] = LEFT if q - table[row, HEAD] <= last - q + 1 else RIGHT
                        found += 1
                    c += 1
                r += size
            elif operation == INSERTION or operation == SOFT_CLIP:
                q += size
            before = own
    return found


@kernel
def _departure(operation: int, at: int, shared: np.ndarray) -> int:
    """Return what an operation behind row `at` adds to a read's departures."""
    if operation == INSERTION or operation == DELETION:
        bit = INSERTION_BIT if operation == INSERTION else DELETION_BIT
        return 0 if 0 <= at < len(shared) and shared[at] >> bit & 1 else _GAP
    return _CLIP if operation == SOFT_CLIP else 0


@kernel
def _mismatches_between(
    buffer: np.ndarray,
    table: np.ndarray,
    row: int,
    reference: np.ndarray,
    start: int,
    shared: np.ndarray,
    offset: int,
    first: int,
    last: int,
    position: int,
) -> int:
    """Count usable mismatches that are not shared in [first, last), save at `position`.

    Read offset = reference position + `offset`.
    """
    count = 0
    for at in range(max(first, start), min(last, start + len(reference))):
        if at != position and reference[at - start] < 4:
            base = base_at(buffer, table, row, at + offset)
            differs = base < 4 and not shared[at - start] >> base & 1
            count += differs and quality_at(buffer, table, row, at + offset) >= MIN_BASE_QUALITY
    return count


@kernel
def observe_spans(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    shared: np.ndarray,
    lefts: np.ndarray,
    rights: np.ndarray,
    out: np.ndarray,
) -> int:
    """List the reads that span some stretches of the reference.

    Parameters
    ----------
    reference, start, shared : as for `observe_positions`
    lefts, rights : int64, `lefts` sorted; first and last position (inclusive) a read must cover with aligned bases
    out : int32, shape (capacity, COLUMNS), written up to its capacity: index of the stretch, record, 1 if the read has
        an insertion, deletion or skip inside the stretch else 0, mean base quality at the two ends, smaller number of
        bases the read is aligned beyond the two ends, departures in and around the stretch as for `observe_positions`,
        and 0

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
                own = _departure(operation, r - 1 - start, shared)
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
                            following = u32(buffer, table[row, CIGAR] + 4 * (k + 1)) & 15
                            departures += _departure(following, r + size - 1 - start, shared)
                        departures += _mismatches_between(
                            buffer,
                            table,
                            row,
                            reference,
                            start,
                            shared,
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
                before = own
            if covered == 2 or (covered > 0 and changed == 1):
                if found < len(out):
                    out[found, 0] = c
                    out[found, 1] = row
                    out[found, 2] = changed
                    out[found, 3] = quality // covered
                    out[found, 4] = min(left - first, end - 1 - right)
                    out[found, 5] = departures
                    out[found, 6] = 0
                found += 1
    return found
