"""Loops of local reassembly: tangled reads, reads along haplotypes, haplotypes along the reference."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    DELETION,
    END,
    INSERTION,
    LENGTH,
    MATCH,
    MIN_BASE_QUALITY,
    POSITION,
    SKIP,
    SOFT_CLIP,
    base_at,
    is_aligned,
    quality_at,
    u32,
)

_QUALITY_LIMIT = 40
_COMPARED = 8
_MATCH, _MISMATCH, _OPEN, _EXTEND = 200, -150, -260, -11
"""GATK's scores for laying assembled haplotypes on the reference: a gap is preferred to two mismatches."""
_NONE = -(1 << 40)
_TOO_MUCH = 200


@kernel
def tangled_reads(buffer: np.ndarray, table: np.ndarray, distance: int, longest: int, out: np.ndarray) -> int:
    """List the pairs of neighbouring gaps of one read that lie close together.

    Parameters
    ----------
    distance : most aligned bases between the two gaps
    longest : longer reads are left out
    out : int64, shape (capacity, 4), written up to its capacity: record, position before the first gap, position
        behind the second, 0

    Returns
    -------
    number of pairs there are
    """
    found = 0
    for row in range(len(table)):
        if table[row, CIGAR_OPS] < 5 or table[row, LENGTH] > longest:
            continue
        r, before, aligned = table[row, POSITION], -1, 0
        for k in range(table[row, CIGAR_OPS]):
            value = u32(buffer, table[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if is_aligned(operation):
                r += size
                aligned += size
            elif operation == INSERTION or operation == DELETION:
                behind = r + (size if operation == DELETION else 0)
                if before >= 0 and aligned <= distance:
                    if found < len(out):
                        out[found, 0], out[found, 1], out[found, 2], out[found, 3] = row, before, behind, 0
                    found += 1
                before, aligned, r = r - 1, 0, behind
            elif operation == SKIP:
                before = -1
                r += size
    return found


@kernel
def clipped_reads(buffer: np.ndarray, table: np.ndarray, least: int, longest: int, out: np.ndarray) -> int:
    """List the ends of reads with many good clipped bases.

    Parameters
    ----------
    least : good clipped bases that an end must have
    longest : longer reads are left out
    out : int64, shape (capacity, 4), written up to its capacity: record, last position before the clipping, first
        position behind it (the same place, seen from both sides), the side and the clipped bases next to it

    Returns
    -------
    number of ends there are
    """
    found = 0
    for row in range(len(table)):
        operations, length = table[row, CIGAR_OPS], table[row, LENGTH]
        if operations < 2 or length > longest:
            continue
        for end in range(2):
            value = u32(buffer, table[row, CIGAR] + (4 * (operations - 1) if end else 0))
            if value & 15 != SOFT_CLIP or value >> 4 < least:
                continue
            good, size, spelled = 0, value >> 4, end
            for j in range(size):
                at = length - size + j if end else size - 1 - j
                good += quality_at(buffer, table, row, at) >= MIN_BASE_QUALITY
                if j < _COMPARED:
                    spelled = spelled << 2 | min(3, base_at(buffer, table, row, at))
            if good >= least:
                if found < len(out):
                    place = table[row, END] if end else table[row, POSITION]
                    out[found, 0], out[found, 1], out[found, 2], out[found, 3] = row, place - 1, place, spelled
                found += 1
    return found


@kernel
def spell_reads(
    buffer: np.ndarray, table: np.ndarray, rows: np.ndarray, bases: np.ndarray, qualities: np.ndarray
) -> None:
    """Write the bases (0..3, 15 = other) and qualities of some reads, one row each; what lies behind a read is 255."""
    bases[:] = 255
    for k in range(len(rows)):
        for at in range(table[rows[k], LENGTH]):
            bases[k, at] = base_at(buffer, table, rows[k], at)
            qualities[k, at] = quality_at(buffer, table, rows[k], at)


@kernel
def place_reads(
    bases: np.ndarray,
    qualities: np.ndarray,
    lengths: np.ndarray,
    expected: np.ndarray,
    slack: int,
    haplotype: np.ndarray,
    margin: int,
    costs: np.ndarray,
    places: np.ndarray,
    sure: np.ndarray,
) -> None:
    """Lay every read without a gap where it fits a haplotype best.

    Parameters
    ----------
    bases, qualities : uint8, shape (reads, longest)
    expected : int64, shape (reads,); places in the haplotype, from which at most `slack` bases are tried in both ways
    haplotype : uint8
    costs, places, sure : int64, shape (reads,), written: sum of the qualities that differ, at most 200, where it is
        least, and whether no other place comes within `margin` of it
    """
    for k in range(len(lengths)):
        best, place, second = _TOO_MUCH, -1, _TOO_MUCH
        for step in range(2 * slack + 1):
            # From the expected place outwards: most reads fit there, and others are given up soon.
            first = expected[k] + (-((step + 1) // 2) if step & 1 else step // 2)
            if first < 0 or first + lengths[k] > len(haplotype):
                continue
            limit, cost = min(second, best + margin), 0
            for at in range(lengths[k]):
                if bases[k, at] != haplotype[first + at] and bases[k, at] < 4:
                    cost += min(_QUALITY_LIMIT, qualities[k, at])
                    if cost >= limit:
                        break
            if cost < best:
                best, place, second = cost, first, best
            elif cost < second:
                second = cost
        costs[k], places[k], sure[k] = best, place, place >= 0 and second >= best + margin


@kernel
def align_haplotype(haplotype: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return where each base of a haplotype stands in the reference, -1 where it is inserted (int64).

    Global alignment with affine gaps (Gotoh 1982).
    """
    rows, columns = len(haplotype) + 1, len(reference) + 1
    aligned = np.full((rows, columns), _NONE, np.int64)
    inserted = np.full((rows, columns), _NONE, np.int64)
    deleted = np.full((rows, columns), _NONE, np.int64)
    aligned[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            if i > 0 and j > 0:
                score = _MATCH if haplotype[i - 1] == reference[j - 1] else _MISMATCH
                before = max(aligned[i - 1, j - 1], inserted[i - 1, j - 1], deleted[i - 1, j - 1])
                aligned[i, j] = before + score
            if i > 0:
                opened = max(aligned[i - 1, j], deleted[i - 1, j]) + _OPEN
                inserted[i, j] = max(opened, inserted[i - 1, j] + _EXTEND)
            if j > 0:
                opened = max(aligned[i, j - 1], inserted[i, j - 1]) + _OPEN
                deleted[i, j] = max(opened, deleted[i, j - 1] + _EXTEND)
    places = np.full(rows - 1, -1, np.int64)
    i, j = rows - 1, columns - 1
    state = _best(aligned[i, j], inserted[i, j], deleted[i, j])
    while i > 0 or j > 0:
        if state == 0:
            i, j = i - 1, j - 1
            places[i] = j
            state = _best(aligned[i, j], inserted[i, j], deleted[i, j])
        elif state == 1:
            i -= 1
            if inserted[i + 1, j] != inserted[i, j] + _EXTEND:
                state = 0 if aligned[i, j] >= deleted[i, j] else 2
        else:
            j -= 1
            if deleted[i, j + 1] != deleted[i, j] + _EXTEND:
                state = 0 if aligned[i, j] >= inserted[i, j] else 1
    return places


@kernel
def _best(aligned: int, inserted: int, deleted: int) -> int:
    if aligned >= inserted and aligned >= deleted:
        return 0
    return 1 if inserted >= deleted else 2


@kernel
def write_cigars(where: np.ndarray, places: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write the CIGARs of reads that lie on a haplotype without a gap.

    Parameters
    ----------
    where : int64; where each base of the haplotype stands in the reference, -1 where it is inserted
    places, lengths : int64, shape (reads,); the reads' first bases in the haplotype
    out : uint32, shape (reads, capacity), written: BAM's operations; inserted bases at the ends are clipped

    Returns
    -------
    int64, shape (reads,), number of operations
    """
    counts = np.zeros(len(places), np.int64)
    for k in range(len(places)):
        first, behind = places[k], places[k] + lengths[k]
        while first < behind and where[first] < 0:
            first += 1
        while behind > first and where[behind - 1] < 0:
            behind -= 1
        found = 0
        before = np.int64(-1)
        kind, size = SOFT_CLIP, 0
        for at in range(places[k], places[k] + lengths[k]):
            now = SOFT_CLIP if not first <= at < behind else (MATCH if where[at] >= 0 else INSERTION)
            jump = where[at] - before - 1 if now == MATCH and before >= 0 else 0
            if now != kind or jump > 0:
                if size > 0:
                    out[k, found] = size << 4 | kind
                    found += 1
                if jump > 0:
                    out[k, found] = jump << 4 | DELETION
                    found += 1
                kind, size = now, 0
            size += 1
            if now == MATCH:
                before = where[at]
        out[k, found] = size << 4 | kind
        counts[k] = found + 1
    return counts
