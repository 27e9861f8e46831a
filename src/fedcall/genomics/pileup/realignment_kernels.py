"""Loops that compare reads with the haplotypes of indel candidates."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    END,
    HEAD,
    INSERTION,
    LENGTH,
    MIN_BASE_QUALITY,
    POSITION,
    SKIP,
    TAIL,
    base_at,
    quality_at,
    u32,
)

ANCHOR = 5
"""Bases a read must be aligned on one side of an indel, outside its repeat, to be compared on the other."""
REACH = 50
"""Bases beyond an indel within which it explains a read's mismatches, and within which indels compete for a read."""
MARGIN = 20
"""Phred by which an indel must explain a read better than the reference does."""
_BEATEN = 10
_QUALITY_LIMIT = 40


@kernel
def fit_reads(
    buffer: np.ndarray,
    table: np.ndarray,
    reference: np.ndarray,
    start: int,
    lefts: np.ndarray,
    lengths: np.ndarray,
    shifts: np.ndarray,
    alts: np.ndarray,
    begins: np.ndarray,
    out: np.ndarray,
) -> int:
    """List the reads that were aligned without an indel, but fit an indel candidate better than the reference.

    Such a read ends near the indel: a few mismatches, or clipped bases, cost the aligner less than a gap. Anchored on
    one side of the indel, the rest of the read is laid along both haplotypes without further gaps.

    Parameters
    ----------
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    lefts, lengths, shifts : int64, shape (n,), `lefts` sorted; position and REF length of each candidate, and how many
        bases it could stand further right
    alts : uint8; bases of all ALT alleles, one after the other
    begins : int64, shape (n + 1,); where each begins in `alts`
    out : int32, shape (capacity, 6), written up to its capacity: candidate, record, how much better the candidate fits
        (Phred; 0 if another candidate nearby fits better still), first position the read does not speak for as it is
        aligned, the position behind the last, bases compared

    Returns
    -------
    number of rows there are
    """
    found = next_place = 0
    for row in range(len(table)):
        first, end = table[row, POSITION], table[row, END]
        head, tail = table[row, HEAD], table[row, TAIL]
        while next_place > 0 and lefts[next_place - 1] + lengths[next_place - 1] >= first - REACH:
            next_place -= 1
        while next_place < len(lefts) and lefts[next_place] + lengths[next_place] < first - REACH:
            next_place += 1
        if next_place == len(lefts) or lefts[next_place] >= end or not _is_gapless(buffer, table, row):
            continue
        before = found
        for c in range(next_place, len(lefts)):
            left, after = lefts[c], lefts[c] + lengths[c]
            if left >= end:
                break
            alt, inserted = alts[begins[c] : begins[c + 1]], begins[c + 1] - begins[c] - 1
            gain, explained, behind, bases = 0, 0, 0, 0
            if first + ANCHOR <= left + 1:
                at = left + 1 - first + head
                better = _gain(buffer, table, row, reference, left + 1 - start, after - start, alt, inserted, at, 1)
                if better > gain:
                    gain, explained, bases = better, left + 1, table[row, LENGTH] - at
                    behind = min(end + tail, after + shifts[c] + REACH)
            if after + shifts[c] + ANCHOR <= end and first < after:
                at = after - 1 - first + head
                better = _gain(buffer, table, row, reference, after - 1 - start, left - start, alt, inserted, at, -1)
                if better > gain:
                    gain, explained, bases = better, max(first - head, left - REACH), at + 1
                    behind = after + shifts[c]
            if gain >= MARGIN:
                if found < len(out):
                    out[found, 0] = c
                    out[found, 1] = row
                    out[found, 2] = gain
                    out[found, 3] = explained
                    out[found, 4] = behind
                    out[found, 5] = bases
                found += 1
        if found - before > 1 and found <= len(out):
            _compete(lefts, out[before:found])
    return found


@kernel
def _is_gapless(buffer: np.ndarray, table: np.ndarray, row: int) -> bool:
    """Return whether the aligned part of a read, if there is one, has neither insertion, deletion nor skip."""
    for k in range(table[row, CIGAR_OPS]):
        operation = u32(buffer, table[row, CIGAR] + 4 * k) & 15
        if INSERTION <= operation <= SKIP:
            return False
    aligned = table[row, LENGTH] - table[row, HEAD] - table[row, TAIL]
    gapless: bool = table[row, END] - table[row, POSITION] == aligned
    return gapless


@kernel
def _gain(
    buffer: np.ndarray,
    table: np.ndarray,
    row: int,
    reference: np.ndarray,
    along: int,
    beyond: int,
    alt: np.ndarray,
    inserted: int,
    at: int,
    step: int,
) -> int:
    """Return the qualities of the bases that differ from the reference less those that differ from the indel.

    From base `at` of the read on in the direction `step`; `along` is that base's place in the reference, `beyond` the
    place that follows the indel's own bases.
    """
    difference, j = 0, 0
    while 0 <= at < table[row, LENGTH]:
        base, quality = base_at(buffer, table, row, at), quality_at(buffer, table, row, at)
        if base < 4 and quality >= MIN_BASE_QUALITY:
            plain = reference[along] if 0 <= along < len(reference) else 4
            if j < inserted:
                changed = alt[1 + j] if step > 0 else alt[inserted - j]
            else:
                place = beyond + step * (j - inserted)
                changed = reference[place] if 0 <= place < len(reference) else 4
            if plain < 4 and changed < 4 and plain != changed:
                quality = min(quality, _QUALITY_LIMIT)
                difference += quality if base == changed else -quality if base == plain else 0
        j += 1
        at += step
        along += step
    return difference


@kernel
def _compete(lefts: np.ndarray, fits: np.ndarray) -> None:
    """Set the gain of a read's fits to 0 where another candidate nearby fits clearly better."""
    best = fits[:, 2].copy()
    for one in range(len(fits)):
        for other in range(len(fits)):
            near = abs(lefts[fits[one, 0]] - lefts[fits[other, 0]]) <= REACH
            if near and best[one] + _BEATEN <= best[other]:
                fits[one, 2] = 0
