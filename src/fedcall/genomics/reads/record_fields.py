"""Fields of raw BAM records (SAM specification v1, §4.2), as the kernels read them from bytes."""

import numpy as np

from fedcall.compiled import inlined

MIN_BASE_QUALITY = 10
"""Bases below it are not counted, neither as support nor as depth."""
MISSING_QUALITY = 20
"""Taken for every base of a read without qualities (0xff in BAM)."""

# Columns of the table of records.
POSITION, END, FLAG, MAPPING_QUALITY, CIGAR, CIGAR_OPS, SEQUENCE, QUALITIES, LENGTH, MATE_POSITION, HEAD, TAIL, NAME = (
    range(13)
)
RECORD_COLUMNS = 13

# Operations of a CIGAR (§4.2.2), as its four low bits say; hard clips and padding (5, 6) move along neither sequence.
MATCH, INSERTION, DELETION, SKIP, SOFT_CLIP, HARD_CLIP, PADDING, EQUAL, MISMATCH = range(9)

# Four-bit base codes "=ACMGRSVTWYHKDBN" to 0..3 = ACGT, 15 = other.
BASE = np.full(16, 15, np.uint8)
BASE[[1, 2, 4, 8]] = [0, 1, 2, 3]
DELETED = 4


@inlined
def u8(buffer: np.ndarray, at: int) -> int:
    """Return the byte at an offset, as the int64 that kernels count in."""
    return np.int64(buffer[at])  # type: ignore[return-value]  # an int for mypy, which would have to tell them apart


@inlined
def u16(buffer: np.ndarray, at: int) -> int:
    """Return the little-endian unsigned 16-bit number at an offset."""
    return u8(buffer, at) | u8(buffer, at + 1) << 8


@inlined
def u32(buffer: np.ndarray, at: int) -> int:
    """Return the unsigned 32-bit number at an offset."""
    return u16(buffer, at) | u16(buffer, at + 2) << 16


@inlined
def u64(buffer: np.ndarray, at: np.uint64) -> np.uint64:
    """Return the unsigned 64-bit number at an offset, which must be unsigned: then this is one instruction."""
    value = np.uint64(buffer[at])
    value |= np.uint64(buffer[at + np.uint64(1)]) << np.uint64(8)
    value |= np.uint64(buffer[at + np.uint64(2)]) << np.uint64(16)
    value |= np.uint64(buffer[at + np.uint64(3)]) << np.uint64(24)
    value |= np.uint64(buffer[at + np.uint64(4)]) << np.uint64(32)
    value |= np.uint64(buffer[at + np.uint64(5)]) << np.uint64(40)
    value |= np.uint64(buffer[at + np.uint64(6)]) << np.uint64(48)
    value |= np.uint64(buffer[at + np.uint64(7)]) << np.uint64(56)
    return value


@inlined
def i32(buffer: np.ndarray, at: int) -> int:
    """Return the signed 32-bit number at an offset."""
    value = u32(buffer, at)
    return value - ((value >> 31) << 32)


@inlined
def is_aligned(operation: int) -> bool:
    """Return whether an operation lays bases of the read on bases of the reference: M, = or X."""
    return operation == MATCH or operation == EQUAL or operation == MISMATCH


@inlined
def base_at(buffer: np.ndarray, table: np.ndarray, row: int, at: int) -> int:
    """Return base `at` of a record's sequence: 0..3 = ACGT, 15 = other."""
    byte = u8(buffer, table[row, SEQUENCE] + (at >> 1))
    base: int = BASE[byte >> 4 if at & 1 == 0 else byte & 15]
    return base


@inlined
def quality_at(buffer: np.ndarray, table: np.ndarray, row: int, at: int) -> int:
    """Return the quality of base `at`, `MISSING_QUALITY` where there is none."""
    quality = u8(buffer, table[row, QUALITIES] + at)
    return quality if quality != 255 else MISSING_QUALITY
