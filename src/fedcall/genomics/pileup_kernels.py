"""Compiled loops over raw BAM records (SAM specification v1, §4.2: the alignment record; §4.1: BGZF).

Nothing here trusts the bytes: `index_records` checks every length of every record against the buffer before another
kernel follows it, and stops with an error code instead of reading outside.
"""

import numpy as np
from numba import njit

MIN_BASE_QUALITY = 10
"""Bases below it are not counted, neither as support nor as depth."""
MISSING_QUALITY = 20
"""Taken for every base of a read without qualities (0xff in BAM)."""

# Columns of the table of records.
POSITION, END, FLAG, MAPPING_QUALITY, CIGAR, CIGAR_OPS, SEQUENCE, QUALITIES, LENGTH, MATE_POSITION, HEAD, TAIL, NAME = (
    range(13)
)
RECORD_COLUMNS = 13

OK, TRUNCATED, BAD_FIELD, BAD_CIGAR, WRONG_CONTIG, COMPRESSED = range(6)
ERRORS = (
    "no error",
    "a record is cut off",
    "a record's fields exceed its length",
    "a CIGAR does not fit its sequence",
    "a record lies on another contig",
    "a block is compressed or damaged",
)

# Four-bit base codes "=ACMGRSVTWYHKDBN" to 0..3 = ACGT, 15 = other.
_BASE = np.full(16, 15, np.uint8)
_BASE[[1, 2, 4, 8]] = [0, 1, 2, 3]
_DELETED = 4
NEARBY = 10
# What an operation next to a base adds to the read's departures: I and D 2, S 1.
_DEPARTURE = np.array([0, 2, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.int64)
_INSERTION_AFTER, _DELETION_AFTER = 1, 2


@njit(cache=True, nogil=True, inline="always")
def _u16(buffer, at):
    return np.int64(buffer[at]) | np.int64(buffer[at + 1]) << 8


@njit(cache=True, nogil=True, inline="always")
def _i32(buffer, at):
    value = _u16(buffer, at) | _u16(buffer, at + 2) << 16
    return value - ((value >> 31) << 32)


@njit(cache=True, nogil=True, inline="always")
def _u32(buffer, at):
    return _u16(buffer, at) | _u16(buffer, at + 2) << 16


@njit(cache=True, nogil=True)
def unwrap_stored_blocks(blocks, out):
    """Copy the content of uncompressed BGZF blocks to `out` (uint8, as long as `blocks`).

    Returns (bytes written, error code).
    """
    at, written, size = 0, 0, blocks.size
    while at < size:
        if at + 18 > size or blocks[at] != 31 or blocks[at + 1] != 139:
            return written, COMPRESSED
        end = at + _u16(blocks, at + 16) + 1
        p = at + 12 + _u16(blocks, at + 10)
        if end > size or p + 9 > end:
            return written, TRUNCATED
        while True:  # deflate blocks, RFC 1951 §3.2.3
            final, kind = blocks[p] & 1, (blocks[p] >> 1) & 3
            if kind == 1 and p + 2 == end - 8:  # the empty block at the end of a file
                break
            if kind != 0 or p + 5 > end - 8:
                return written, COMPRESSED
            length = _u16(blocks, p + 1)
            if p + 5 + length > end - 8 or written + length > out.size:
                return written, TRUNCATED
            out[written : written + length] = blocks[p + 5 : p + 5 + length]
            written += length
            p += 5 + length
            if final:
                break
        at = end
    return written, OK


@njit(cache=True, nogil=True)
def skip_header(buffer):
    """Return the offset of the first record, or -1 if the header is damaged."""
    size = buffer.size
    if size < 12 or buffer[0] != 66 or buffer[1] != 65 or buffer[2] != 77 or buffer[3] != 1:
        return -1
    length = _i32(buffer, 4)
    if length < 0 or 12 + length > size:
        return -1
    at = 8 + length
    contigs = _i32(buffer, at)
    at += 4
    for _ in range(contigs):
        if at + 4 > size:
            return -1
        length = _i32(buffer, at)
        at += 8 + length
        if length < 0 or at > size:
            return -1
    return at


@njit(cache=True, nogil=True)
def count_records(buffer, offset):
    """Return (records, error code) from `offset` to the end."""
    count, size = 0, buffer.size
    while offset < size:
        if offset + 36 > size:
            return count, TRUNCATED
        length = _i32(buffer, offset)
        if length < 32 or offset + 4 + length > size:
            return count, TRUNCATED
        offset += 4 + length
        count += 1
    return count, OK


@njit(cache=True, nogil=True)
def index_records(buffer, offset, contig, records, hashes):
    """Check every record and note where its parts lie.

    Parameters
    ----------
    buffer : uint8
    offset : where the first record begins; `count_records` has accepted the buffer from there.
    contig : index of the contig every record must lie on.
    records : int64, shape (n, RECORD_COLUMNS), written
    hashes : uint64, shape (n,), written; FNV-1a of the read's name

    Returns
    -------
    (insertions and deletions in all CIGARs, error code)
    """
    indels = 0
    for row in range(len(records)):
        length = _i32(buffer, offset)
        p = offset + 4
        end = p + length
        name_length = np.int64(buffer[p + 8])
        operations = _u16(buffer, p + 12)
        bases = _i32(buffer, p + 16)
        cigar = p + 32 + name_length
        sequence = cigar + 4 * operations
        if bases < 0 or name_length < 1 or sequence + (bases + 1) // 2 + bases > end or buffer[cigar - 1] != 0:
            return indels, BAD_FIELD
        position = _i32(buffer, p + 4)
        if _i32(buffer, p) != contig or position < 0:
            return indels, WRONG_CONTIG
        flag = _u16(buffer, p + 14)
        reference_end, query, head, tail, aligned = position, 0, 0, 0, False
        for k in range(operations):
            value = _u32(buffer, cigar + 4 * k)
            operation, size = value & 15, value >> 4
            if operation > 8:
                return indels, BAD_CIGAR
            if operation == 0 or operation == 7 or operation == 8:
                reference_end += size
                query += size
                aligned = True
                tail = 0
            elif operation == 1 or operation == 4:
                query += size
                indels += operation == 1
                if aligned:
                    tail += size
                else:
                    head += size
            elif operation == 2 or operation == 3:
                reference_end += size
                indels += operation == 2
        if bases > 0 and query != bases:
            return indels, BAD_CIGAR
        records[row, POSITION] = position
        records[row, END] = reference_end
        records[row, FLAG] = flag
        records[row, MAPPING_QUALITY] = buffer[p + 9]
        records[row, CIGAR] = cigar
        # A read stored without its sequence ("*") covers nothing we can count.
        records[row, CIGAR_OPS] = operations if bases > 0 else 0
        records[row, SEQUENCE] = sequence
        records[row, QUALITIES] = sequence + (bases + 1) // 2
        records[row, LENGTH] = bases
        paired_here = flag & 1 and not flag & 8 and _i32(buffer, p + 20) == contig
        records[row, MATE_POSITION] = _i32(buffer, p + 24) if paired_here else -1
        records[row, HEAD] = head
        records[row, TAIL] = tail
        records[row, NAME] = p + 32
        key = np.uint64(14695981039346656037)
        for k in range(name_length):
            key = (key ^ np.uint64(buffer[p + 32 + k])) * np.uint64(1099511628211)
        hashes[row] = key
        offset = end
    return indels, OK


@njit(cache=True, nogil=True)
def pair_mates(buffer, records, hashes, order, mates):
    """Write into `mates` (int64, all -1) the other record of each fragment whose two reads may overlap.

    `order` lists rows by hash, ties by row. Only neighbours whose names are equal byte by byte are paired.
    """
    k = 0
    while k + 1 < len(order):
        first, second = order[k], order[k + 1]
        k += 1
        if hashes[first] != hashes[second] or records[second, POSITION] >= records[first, END]:
            continue
        a, b = records[first, NAME], records[second, NAME]
        while buffer[a] == buffer[b] and buffer[a] != 0:
            a += 1
            b += 1
        if buffer[a] == buffer[b]:
            mates[first], mates[second] = second, first
            k += 1


@njit(cache=True, nogil=True, inline="always")
def _base(buffer, records, row, at):
    byte = np.int64(buffer[records[row, SEQUENCE] + (at >> 1)])
    return _BASE[byte >> 4 if at & 1 == 0 else byte & 15]


@njit(cache=True, nogil=True, inline="always")
def _quality(buffer, records, row, at):
    quality = np.int64(buffer[records[row, QUALITIES] + at])
    return quality if quality != 255 else MISSING_QUALITY


@njit(cache=True, nogil=True)
def _spell(buffer, records, row, bases, qualities, marks):
    """Write base, quality and following indels of a read per reference position from its start."""
    span = records[row, END] - records[row, POSITION]
    bases[:span] = 15
    marks[:span] = 0
    r, q, aligned_before = 0, 0, False
    for k in range(records[row, CIGAR_OPS]):
        value = _u32(buffer, records[row, CIGAR] + 4 * k)
        operation, size = value & 15, value >> 4
        if operation == 0 or operation == 7 or operation == 8:
            for j in range(size):
                quality = _quality(buffer, records, row, q + j)
                if quality >= MIN_BASE_QUALITY:
                    bases[r + j] = _base(buffer, records, row, q + j)
                    qualities[r + j] = quality
            r += size
            q += size
            aligned_before = size > 0
        elif operation == 1:
            if aligned_before:
                marks[r - 1] |= _INSERTION_AFTER
            q += size
        elif operation == 2:
            if r > 0:
                marks[r - 1] |= _DELETION_AFTER
            bases[r : r + size] = _DELETED
            r += size
            aligned_before = False
        elif operation == 3:
            r += size
            aligned_before = False
        elif operation == 4:
            q += size
            aligned_before = False
    return span


@njit(cache=True, nogil=True)
def count_channels(buffer, records, mates, start, counts, events):
    """Count the 18 channels per position, and list the indels a read shows between aligned bases.

    Parameters
    ----------
    buffer, records, mates : as from `index_records` and `pair_mates`
    start : position of row 0 of `counts`
    counts : int32, shape (positions, 18), added to. Where the two reads of a fragment overlap, the better base counts.
    events : int64, shape (indels, 4), written: record, position of the base before, length (negative for deletions),
        offset of the first inserted base in the read

    Returns
    -------
    number of events written
    """
    found, positions = 0, len(counts)
    longest = 1
    for row in range(len(records)):
        if mates[row] >= 0:
            longest = max(longest, records[row, END] - records[row, POSITION])
    mate_bases = np.empty(longest, np.uint8)
    mate_qualities = np.empty(longest, np.uint8)
    mate_marks = np.empty(longest, np.uint8)
    for row in range(len(records)):
        mate = mates[row]
        mate_start, mate_span = 0, 0
        if mate >= 0:
            mate_start = records[mate, POSITION] - start
            mate_span = _spell(buffer, records, mate, mate_bases, mate_qualities, mate_marks)
        second = mate >= 0 and mate < row
        strand = 9 if records[row, FLAG] & 16 else 0
        r, q, aligned_before = records[row, POSITION] - start, 0, False
        operations = records[row, CIGAR_OPS]
        for k in range(operations):
            value = _u32(buffer, records[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if operation == 0 or operation == 7 or operation == 8:
                for j in range(max(0, -r), min(size, positions - r)):
                    base = _base(buffer, records, row, q + j)
                    quality = _quality(buffer, records, row, q + j)
                    if base > 3 or quality < MIN_BASE_QUALITY:
                        continue
                    at = r + j - mate_start
                    if 0 <= at < mate_span and mate_bases[at] < 4:
                        better = mate_qualities[at]
                        if better > quality or (better == quality and second):
                            continue
                    counts[r + j, strand + base] += 1
                r += size
                q += size
                aligned_before = size > 0
            elif operation == 1 or operation == 2:
                at = r - 1 - mate_start
                mark = _INSERTION_AFTER if operation == 1 else _DELETION_AFTER
                counted = second and 0 <= at < mate_span and mate_marks[at] & mark
                anchored = aligned_before if operation == 1 else r + start > records[row, POSITION]
                if anchored and 0 < r <= positions and not counted:
                    channel = 4 if operation == 1 else 6
                    counts[r - 1, strand + channel] += 1
                    if size == 1:
                        counts[r - 1, strand + channel + 1] += 1
                    if aligned_before and k + 1 < operations:
                        following = _u32(buffer, records[row, CIGAR] + 4 * (k + 1)) & 15
                        if following == 0 or following == 7 or following == 8:
                            events[found, 0] = row
                            events[found, 1] = r - 1 + start
                            events[found, 2] = size if operation == 1 else -size
                            events[found, 3] = q
                            found += 1
                if operation == 1:
                    q += size
                else:
                    for j in range(max(0, -r), min(size, positions - r)):
                        at = r + j - mate_start
                        if not (second and 0 <= at < mate_span and mate_bases[at] == _DELETED):
                            counts[r + j, strand + 8] += 1
                    r += size
                    aligned_before = False
            elif operation == 3:
                r += size
                aligned_before = False
            elif operation == 4:
                q += size
                aligned_before = False
    return found


@njit(cache=True, nogil=True)
def inserted_bases(buffer, records, event, out):
    """Write the bases (0..3, 15 = other) of one insertion event to `out`; return the lowest base quality."""
    lowest = 255
    for k in range(event[2]):
        out[k] = _base(buffer, records, event[0], event[3] + k)
        lowest = min(lowest, _quality(buffer, records, event[0], event[3] + k))
    return lowest


@njit(cache=True, nogil=True)
def observe_positions(buffer, records, reference, start, positions, out):
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
    found = 0
    for row in range(len(records)):
        r, q = records[row, POSITION], 0
        c = np.searchsorted(positions, r)
        if c == len(positions) or positions[c] >= records[row, END]:
            continue
        last = records[row, LENGTH] - records[row, TAIL] - 1
        before = 0
        for k in range(records[row, CIGAR_OPS]):
            value = _u32(buffer, records[row, CIGAR] + 4 * k)
            operation, size = value & 15, value >> 4
            if operation == 0 or operation == 7 or operation == 8:
                while c < len(positions) and positions[c] < r + size:
                    at = q + positions[c] - r
                    base = _base(buffer, records, row, at)
                    quality = _quality(buffer, records, row, at)
                    if base < 4 and quality >= MIN_BASE_QUALITY:
                        if found < len(out):
                            out[found, 0] = c
                            out[found, 1] = row
                            out[found, 2] = base
                            out[found, 3] = quality
                            out[found, 4] = min(at - records[row, HEAD], last - at)
                            here = positions[c]
                            departures = _mismatches_between(
                                buffer,
                                records,
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
                            if r + size - 1 - here < NEARBY and k + 1 < records[row, CIGAR_OPS]:
                                departures += _DEPARTURE[_u32(buffer, records[row, CIGAR] + 4 * (k + 1)) & 15]
                            out[found, 5] = departures
                        found += 1
                    c += 1
                r += size
                q += size
            elif operation == 2 or operation == 3:
                while c < len(positions) and positions[c] < r + size:
                    if operation == 2:
                        if found < len(out):
                            out[found, 0] = c
                            out[found, 1] = row
                            out[found, 2] = _DELETED
                            out[found, 3] = MISSING_QUALITY
                            out[found, 4] = min(q - records[row, HEAD], last - q + 1)
                            out[found, 5] = 0
                        found += 1
                    c += 1
                r += size
            elif operation == 1 or operation == 4:
                q += size
            before = _DEPARTURE[operation]
    return found


@njit(cache=True, nogil=True)
def _mismatches_between(buffer, records, row, reference, start, offset, first, last, position):
    """Count usable mismatches in [first, last), save at `position`; read offset = reference position + `offset`."""
    count = 0
    for at in range(max(first, start), min(last, start + len(reference))):
        if at != position and reference[at - start] < 4:
            base = _base(buffer, records, row, at + offset)
            differs = base < 4 and base != reference[at - start]
            count += differs and _quality(buffer, records, row, at + offset) >= MIN_BASE_QUALITY
    return count


@njit(cache=True, nogil=True)
def observe_spans(buffer, records, reference, start, lefts, rights, out):
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
    found = 0
    for row in range(len(records)):
        first, end = records[row, POSITION], records[row, END]
        for c in range(np.searchsorted(lefts, first), len(lefts)):
            left, right = lefts[c], rights[c]
            if left >= end:
                break
            if right >= end:
                continue
            r, q, changed, covered, quality, before, departures = first, 0, 0, 0, 0, 0, 0
            for k in range(records[row, CIGAR_OPS]):
                value = _u32(buffer, records[row, CIGAR] + 4 * k)
                operation, size = value & 15, value >> 4
                if operation == 0 or operation == 7 or operation == 8:
                    if r <= left < r + size:
                        covered += 1
                        quality += _quality(buffer, records, row, q + left - r)
                    if r <= right < r + size:
                        covered += 1
                        quality += _quality(buffer, records, row, q + right - r)
                    if r <= left and right < r + size:
                        departures = before if left - r < NEARBY else 0
                        if r + size - 1 - right < NEARBY and k + 1 < records[row, CIGAR_OPS]:
                            departures += _DEPARTURE[_u32(buffer, records[row, CIGAR] + 4 * (k + 1)) & 15]
                        departures += _mismatches_between(
                            buffer,
                            records,
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
                elif operation == 1:
                    if left < r <= right:
                        changed = 1
                    q += size
                elif operation == 2 or operation == 3:
                    if r <= right and r + size > left:
                        changed = 1
                    r += size
                elif operation == 4:
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
