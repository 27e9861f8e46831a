"""Loops of local reassembly: tangled reads, reads along haplotypes, haplotypes along the reference."""

import numpy as np

from fedcall.genomics.compiled import kernel
from fedcall.genomics.record_fields import (
    CIGAR,
    CIGAR_OPS,
    LENGTH,
    POSITION,
    base_at,
    quality_at,
    u32,
)

_QUALITY_LIMIT = 40
_MATCH, _MISMATCH, _OPEN, _EXTEND = 200, -150, -260, -11
"""GATK's scores for laying assembled haplotypes on the reference: a gap is preferred to two mismatches."""
_NONE = -(1 << 40)
_FAR = 1 << 30


@kernel
def tangled_reads(buffer, table, distance, longest, out):
    """List the pairs of neighbouring gaps of one read that lie close together.

    Parameters
    ----------
    distance : most aligned bases between the two gaps
    longest : longer reads are left out
    out : int64, shape (capacity, 3), written up to its capacity: record, position before the first gap, position
        behind the second

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
            if operation == 0 or operation == 7 or operation == 8:
                r += size
                aligned += size
            elif operation == 1 or operation == 2:
                behind = r + (size if operation == 2 else 0)
                if before >= 0 and aligned <= distance:
                    if found < len(out):
                        out[found, 0], out[found, 1], out[found, 2] = row, before, behind
                    found += 1
                before, aligned, r = r - 1, 0, behind
            elif operation == 3:
                before = -1
                r += size
    return found


@kernel
def spell_reads(buffer, table, rows, bases, qualities):
    """Write the bases (0..3, 15 = other) and qualities of some reads, one row each; what lies behind a read is 255."""
    bases[:] = 255
    for k in range(len(rows)):
        for at in range(table[rows[k], LENGTH]):
            bases[k, at] = base_at(buffer, table, rows[k], at)
            qualities[k, at] = quality_at(buffer, table, rows[k], at)


@kernel
def place_reads(bases, qualities, lengths, expected, slack, haplotype, costs, places, runners_up):
    """Lay every read without a gap where it fits a haplotype best.

    Parameters
    ----------
    bases, qualities : uint8, shape (reads, longest)
    expected : int64, shape (reads,); places in the haplotype, from which at most `slack` bases are tried in both ways
    haplotype : uint8
    costs, places, runners_up : int64, shape (reads,), written: sum of the qualities that differ, where it is least,
        and least elsewhere
    """
    for k in range(len(lengths)):
        best, second, place = _FAR, _FAR, -1
        low, high = max(0, expected[k] - slack), min(len(haplotype) - lengths[k], expected[k] + slack)
        for first in range(low, high + 1):
            cost = 0
            for at in range(lengths[k]):
                if bases[k, at] != haplotype[first + at] and bases[k, at] < 4:
                    cost += min(_QUALITY_LIMIT, qualities[k, at])
                    if cost >= second:
                        break
            if cost < best:
                best, second, place = cost, best, first
            elif cost < second:
                second = cost
        costs[k], places[k], runners_up[k] = best, place, second


@kernel
def align_haplotype(haplotype, reference):
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
def _best(aligned, inserted, deleted):
    if aligned >= inserted and aligned >= deleted:
        return 0
    return 1 if inserted >= deleted else 2
