"""Walk over raw BAM records: check them, keep the usable ones, pair mates.

Nothing here trusts the bytes: `index_records` checks every length of every record against the buffer before another
kernel follows it, and stops with an error code instead of reading outside.
"""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import (
    CIGAR,
    CIGAR_OPS,
    DELETION,
    END,
    FLAG,
    HEAD,
    INSERTION,
    LENGTH,
    MAPPING_QUALITY,
    MATE_POSITION,
    MISMATCH,
    NAME,
    PADDING,
    POSITION,
    QUALITIES,
    SEQUENCE,
    SKIP,
    SOFT_CLIP,
    TAIL,
    i32,
    is_aligned,
    u8,
    u16,
    u32,
    u64,
)

OK, TRUNCATED, BAD_FIELD, BAD_CIGAR = range(4)
ERRORS = (
    "no error",
    "a record is cut off",
    "a record's fields exceed its length",
    "a CIGAR does not fit its sequence, or has an operation that no tool of today writes (B)",
)
_SHORTEST = 32
_ONES, _HIGHS = np.uint64(0x1111_1111_1111_1111), np.uint64(0x8888_8888_8888_8888)
_COPIES = 8


@kernel
def skip_header(buffer: np.ndarray) -> int:
    """Return the offset of the first record, or -1 if the header is damaged or cut off."""
    size = buffer.size
    if size < 12 or buffer[0] != 66 or buffer[1] != 65 or buffer[2] != 77 or buffer[3] != 1:
        return -1
    length = i32(buffer, 4)
    if length < 0 or 12 + length > size:
        return -1
    at = 8 + length
    contigs = i32(buffer, at)
    at += 4
    for _ in range(contigs):
        if at + 4 > size:
            return -1
        length = i32(buffer, at)
        at += 8 + length
        if length < 0 or at > size:
            return -1
    return at


@kernel
def contig_starts(buffer: np.ndarray, offset: int, first: int, starts: np.ndarray) -> bool:
    """Write where the records of each contig begin, in a buffer that holds records of a few contigs and nothing else.

    Parameters
    ----------
    buffer : uint8
    offset : where the first record begins
    first : place of the first contig in the header
    starts : int64, shape (contigs + 1,), written; the last is the end of the buffer

    Returns
    -------
    False if the bytes are not whole records in the order of the contigs
    """
    last = -1
    while offset + 36 <= buffer.size:
        contig = i32(buffer, offset + 4) - first
        if i32(buffer, offset) < _SHORTEST or contig < max(last, 0) or contig >= starts.size - 1:
            return False
        while last < contig:
            last += 1
            starts[last] = offset
        offset += 4 + i32(buffer, offset)
    starts[last + 1 :] = buffer.size
    return offset == buffer.size


@kernel
def index_records(
    buffer: np.ndarray,
    offset: int,
    contig: int,
    start: int,
    end: int,
    dropped: int,
    lowest: int,
    table: np.ndarray,
    row: int,
) -> tuple[int, int, int, int, bool, int]:
    """Check records as far as whole ones go, and note where the parts of the usable ones lie.

    Parameters
    ----------
    buffer : uint8
    offset : where the first record begins
    contig : index of the contig the records must lie on
    start : records that end before it are not kept
    end : the first record that begins here or behind, or lies on another contig, is the last that is looked at
    dropped : records with any of these flags are not kept
    lowest : records of lower mapping quality are not kept
    table : int64, shape (n, RECORD_COLUMNS), written from `row` on; must have a row for every 36 bytes

    Returns
    -------
    (rows written in all, insertions and deletions in the CIGARs of the new ones, how many of the new ones
    `spell_plainly` should look at, offset of the first record not looked at, whether that is the last, error code)
    """
    indels = unusual = 0
    while offset + 36 <= buffer.size:
        length = i32(buffer, offset)
        if length < _SHORTEST:
            return row, indels, unusual, offset, False, BAD_FIELD
        p = offset + 4
        position = i32(buffer, p + 4)
        if i32(buffer, p) != contig or position >= end:
            return row, indels, unusual, offset, True, OK
        if p + length > buffer.size:
            break
        offset = p + length
        flag = u16(buffer, p + 14)
        if flag & dropped or buffer[p + 9] < lowest:
            continue
        name_length = u8(buffer, p + 8)
        operations = u16(buffer, p + 12)
        bases = i32(buffer, p + 16)
        cigar = p + 32 + name_length
        sequence = cigar + 4 * operations
        if bases < 0 or name_length < 1 or sequence + (bases + 1) // 2 + bases > offset or buffer[cigar - 1] != 0:
            return row, indels, unusual, offset, False, BAD_FIELD
        if position < 0:  # a contig and no position: nobody knows what it shows
            continue
        if operations == 2 and u32(buffer, cigar) == bases << 4 | SOFT_CLIP and u32(buffer, cigar + 4) & 15 == SKIP:
            # More operations than fit in 16 bits: the CIGAR stands in a tag (SAM specification v1, section 4.2.2).
            real, number = _long_cigar(buffer, sequence + (bases + 1) // 2 + bases, offset)
            if number > 0:
                cigar, operations = real, number
        reference_end, query, head, tail, found, aligned = position, 0, 0, 0, 0, False
        before, is_unusual = -1, has_equals(buffer, sequence, bases)
        for k in range(operations):
            value = u32(buffer, cigar + 4 * k)
            operation, size = value & 15, value >> 4
            is_gap = operation == INSERTION or operation == DELETION
            is_unusual |= size == 0 or operation == PADDING or (is_gap and (before == INSERTION or before == DELETION))
            before = operation
            if operation > MISMATCH:
                return row, indels, unusual, offset, False, BAD_CIGAR
            if is_aligned(operation):
                reference_end += size
                query += size
                aligned = True
                tail = 0
            elif operation == INSERTION or operation == SOFT_CLIP:
                query += size
                found += operation == INSERTION
                if aligned:
                    tail += size
                else:
                    head += size
            elif operation == DELETION or operation == SKIP:
                reference_end += size
                found += operation == DELETION
        if bases > 0 and query != bases:
            return row, indels, unusual, offset, False, BAD_CIGAR
        if max(reference_end, position + 1) <= start:
            continue
        indels += found
        unusual += is_unusual
        table[row, POSITION] = position
        table[row, END] = reference_end
        table[row, FLAG] = flag
        table[row, MAPPING_QUALITY] = buffer[p + 9]
        table[row, CIGAR] = cigar
        # A read stored without its sequence ("*") covers nothing we can count.
        table[row, CIGAR_OPS] = operations if bases > 0 else 0
        table[row, SEQUENCE] = sequence
        table[row, QUALITIES] = sequence + (bases + 1) // 2
        table[row, LENGTH] = bases
        paired_here = flag & 1 and not flag & 8 and i32(buffer, p + 20) == contig
        table[row, MATE_POSITION] = i32(buffer, p + 24) if paired_here else -1
        table[row, HEAD] = head
        table[row, TAIL] = tail
        table[row, NAME] = p + 32
        row += 1
    return row, indels, unusual, offset, False, OK


@kernel
def _long_cigar(buffer: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return where the CIGAR in a record's CG tag begins, and its operations: 0 if the tags in [at, end) hold none."""
    while at + 8 <= end:
        kind = u8(buffer, at + 2)
        is_cigar = u8(buffer, at) == 67 and u8(buffer, at + 1) == 71
        at += 3
        if kind == 66:  # B: type of the items, their number, the items
            item, number = u8(buffer, at), i32(buffer, at + 1)
            at += 5
            size = 1 if item == 99 or item == 67 else 2 if item == 115 or item == 83 else 4
            if number < 0 or at + size * number > end:
                return 0, 0
            if is_cigar and size == 4:
                return at, number
            at += size * number
        elif kind == 90 or kind == 72:  # Z, H: as far as a zero
            while at < end and buffer[at] != 0:
                at += 1
            at += 1
        else:
            at += 1 if kind == 65 or kind == 99 or kind == 67 else 2 if kind == 115 or kind == 83 else 4
    return 0, 0


@kernel
def has_equals(buffer: np.ndarray, sequence: int, bases: int) -> bool:
    """Return whether a sequence of four-bit codes holds "=" (0): a base like the reference's."""
    whole = bases // 2
    found: bool = bases & 1 == 1 and buffer[sequence + whole] < 16
    if whole < 8:
        for k in range(sequence, sequence + whole):
            found |= buffer[k] < 16 or buffer[k] & 15 == 0
        return found
    # Eight bytes at a time, and the last eight whether or not some of them were looked at: no branch in between.
    last = np.uint64(sequence + whole - 8)
    at, zeros = np.uint64(sequence), np.uint64(0)
    while at < last:
        eight = u64(buffer, at)
        zeros |= (eight - _ONES) & ~eight
        at += np.uint64(8)
    eight = u64(buffer, last)
    zeros |= (eight - _ONES) & ~eight
    return found or zeros & _HIGHS != 0


@kernel
def may_overlap(buffer: np.ndarray, table: np.ndarray, longest_span: int, rows: np.ndarray, hashes: np.ndarray) -> int:
    """List the reads whose mate may overlap them, with a hash of the fragment's name (FNV-1a).

    Parameters
    ----------
    longest_span : reads over more bases of the reference are not paired
    rows : int64, shape (n,), written
    hashes : uint64, shape (n,), written

    Returns
    -------
    number of rows written
    """
    longest, found = 0, 0
    for row in range(len(table)):
        longest = max(longest, min(table[row, END] - table[row, POSITION], longest_span))
    for row in range(len(table)):
        position, end, mate = table[row, POSITION], table[row, END], table[row, MATE_POSITION]
        if mate < 0 or end - position > longest_span or mate >= end or position >= mate + longest:
            continue
        key = np.uint64(14695981039346656037)
        at = table[row, NAME]
        while buffer[at] != 0:
            key = (key ^ np.uint64(buffer[at])) * np.uint64(1099511628211)
            at += 1
        rows[found], hashes[found] = row, key
        found += 1
    return found


@kernel
def pair_mates(
    buffer: np.ndarray, table: np.ndarray, rows: np.ndarray, hashes: np.ndarray, order: np.ndarray, mates: np.ndarray
) -> None:
    """Write into `mates` (int64, all -1) the other record of each fragment whose two reads may overlap.

    `order` sorts `rows` by hash, ties by row. Names must be equal byte by byte. A read that the file holds twice is no
    mate of its copy: the mate comes behind both. Beyond a few copies nobody is looked for, so that no file of equal
    names takes for ever.
    """
    for k in range(len(order)):
        first = rows[order[k]]
        for other in range(k + 1, min(k + 1 + _COPIES, len(order))):
            second = rows[order[other]]
            if hashes[order[k]] != hashes[order[other]] or table[second, POSITION] >= table[first, END]:
                break
            if mates[first] < 0 and mates[second] < 0 and _are_mates(buffer, table[first], table[second]):
                mates[first], mates[second] = second, first


@kernel
def _are_mates(buffer: np.ndarray, first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two records have one name and do not both call themselves the first read, or the last, of it."""
    if first[FLAG] & second[FLAG] & 0xC0:
        return False
    a, b = first[NAME], second[NAME]
    while buffer[a] == buffer[b] and buffer[a] != 0:
        a += 1
        b += 1
    same: bool = buffer[a] == buffer[b]
    return same
