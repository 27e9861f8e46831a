"""Loops that find candidates in counts and events, and cut their windows."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import MIN_BASE_QUALITY, base_at, quality_at

HALF = 25
"""Inserted bases in one number, two bits each."""
EVENT_COLUMNS = 6


@kernel
def find_snps(
    counts: np.ndarray,
    reference: np.ndarray,
    first: int,
    last: int,
    least_reads: int,
    least_fraction: float,
    out: np.ndarray,
) -> int:
    """List the bases unlike the reference that enough reads show at rows [first, last) of `counts`.

    Parameters
    ----------
    out : int32, shape (capacity, 2), written up to its capacity: row, base

    Returns
    -------
    number of them
    """
    found = 0
    for at in range(max(0, first), min(last, len(counts))):
        if reference[at] > 3:
            continue
        depth = counts[at, 8] + counts[at, 17]
        for base in range(4):
            depth += counts[at, base] + counts[at, 9 + base]
        if depth == counts[at, reference[at]] + counts[at, 9 + reference[at]]:
            continue
        for base in range(4):
            reads = counts[at, base] + counts[at, 9 + base]
            if base != reference[at] and reads >= least_reads and reads >= least_fraction * depth:
                if found < len(out):
                    out[found, 0], out[found, 1] = at, base
                found += 1
    return found


@kernel
def normalise_events(
    buffer: np.ndarray,
    table: np.ndarray,
    events: np.ndarray,
    reference: np.ndarray,
    start: int,
    longest: int,
    longest_shift: int,
    out: np.ndarray,
) -> int:
    """Bring the indels of reads to their leftmost form.

    Parameters
    ----------
    events : int64, shape (n, 4), from `count_channels`
    reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
    longest : longer indels are left out, as are insertions with an unknown base
    out : int64, shape (n, EVENT_COLUMNS), written: position of the base before, length (negative for deletions),
        the first `HALF` inserted bases and the others, two bits each, record, whether an inserted base is bad

    Returns
    -------
    number of rows written
    """
    found = 0
    for k in range(len(events)):
        row, at, length, offset = events[k, 0], events[k, 1] - start, events[k, 2], events[k, 3]
        if not 0 <= at < len(reference) or abs(length) > longest or at - min(length, 0) >= len(reference):
            continue
        stop = max(0, at - longest_shift)
        usable, bad, low, high = True, False, 0, 0
        if length > 0:
            for j in range(length):
                usable &= base_at(buffer, table, row, offset + j) < 4
                bad |= quality_at(buffer, table, row, offset + j) < MIN_BASE_QUALITY
            if not usable:
                continue
            # The last inserted base moves to the front while the base before the insertion equals it.
            shift = 0
            while at > stop and reference[at] == base_at(buffer, table, row, offset + length - 1 - shift % length):
                at -= 1
                shift += 1
            for j in range(length):
                base = int(base_at(buffer, table, row, offset + (j - shift) % length))
                if j < HALF:
                    low = low << 2 | base
                else:
                    high = high << 2 | base
        else:
            while at > stop and reference[at] < 4 and reference[at] == reference[at - length]:
                at -= 1
            # A code for several bases, or an N, inside is deleted with the others; of N alone nothing is known.
            known = 0
            for j in range(at + 1, at - length + 1):
                known += reference[j] < 4
            usable = known > 0
        if usable:
            out[found, 0], out[found, 1], out[found, 2], out[found, 3] = at + start, length, low, high
            out[found, 4], out[found, 5] = row, bad
            found += 1
    return found


@kernel
def cut_windows(
    counts: np.ndarray, reference: np.ndarray, rows: np.ndarray, windows: np.ndarray, bases: np.ndarray
) -> None:
    """Copy the counts and the reference around some rows; beyond the ends stay 0 and 4.

    Parameters
    ----------
    windows : uint16, shape (n, channels, width), zero, written; higher counts become 65535
    bases : uint8, shape (n, width), 4, written
    """
    width = bases.shape[1]
    for k in range(len(rows)):
        for column in range(width):
            at = rows[k] + column - width // 2
            if 0 <= at < len(counts):
                bases[k, column] = reference[at]
                for channel in range(counts.shape[1]):
                    windows[k, channel, column] = min(counts[at, channel], 65_535)
