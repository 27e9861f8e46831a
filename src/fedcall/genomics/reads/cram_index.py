"""Whether a `.crai` is the index of a CRAM as it is: htslib believes any, and leaves out the containers it omits.

An index has a line for every slice, and says where the slice's container begins, where the slice lies in it and how
long it is (CRAM specification 3.1, §12). Containers follow each other, so what lies between two of them shows without a
look at the file; the file is asked at its ends, at some containers between, and wherever there is a gap.
"""

import gzip
import os
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedcall.files import file_stamp
from fedcall.genomics.binning_index import UnfaithfulIndexError

_DEFINITION = 26
"""Bytes of the file definition, before the container of the header."""
_HEAD = 4_096
_LONGEST_HEAD = 64
"""Bytes of a container's header of one slice; every further slice takes five at most."""
_LOOKED_AT = 64
_SEVERAL, _UNPLACED = -2, -1
_VERSIONS = (2, 3)


def check_crai(index: Path, file: Path) -> None:
    """Refuse a `.crai` that is damaged, or is not of the file as it is.

    Raises
    ------
    UnfaithfulIndexError
        Says what is wrong with the index.
    """
    stamps = (file_stamp(index), file_stamp(file))
    reason = _reason(index, file, stamps)
    if reason is not None:
        raise UnfaithfulIndexError(reason)


def placed_bytes(index: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return of each slice with a place its contig and its compressed bytes (int64); errors as of `check_crai`."""
    lines = _lines(index)
    placed = lines[lines[:, 0] >= 0]
    return placed[:, 0], placed[:, 5]


def names_all_contigs(index: Path) -> bool:
    """Whether no slice hides its contigs behind the number that stands for several; errors as of `check_crai`."""
    return not (_lines(index)[:, 0] == _SEVERAL).any()


@lru_cache(maxsize=32)
def _reason(index: Path, file: Path, stamps: tuple[tuple[int, int], ...]) -> str | None:
    try:
        lines = _lines(index)
        with open(file, "rb") as handle:
            if (major := handle.read(5)[4]) in _VERSIONS:  # htslib tells of what is none
                _compare(lines, handle, major)
    except UnfaithfulIndexError as error:
        return str(error)
    except (IndexError, ValueError):
        return "leads to no container of the file as it is"
    return None


def _lines(index: Path) -> np.ndarray:
    """Return the lines: contig, start, bases, container's offset, slice's offset in it, slice's length (int64)."""
    content = index.read_bytes()
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        rows = [[int(field) for field in line.split(b"\t")] for line in text.splitlines()]
    except (OSError, EOFError, zlib.error, ValueError):
        raise UnfaithfulIndexError("is damaged") from None
    if any(len(row) != 6 for row in rows) or (text and not text.endswith(b"\n")):
        raise UnfaithfulIndexError("is damaged")
    try:
        lines = np.array(rows, np.int64).reshape(-1, 6)
    except OverflowError:
        raise UnfaithfulIndexError("is damaged") from None
    lines = lines[np.lexsort((lines[:, 4], lines[:, 3]))]
    placed = lines[lines[:, 0] >= 0]
    # Contigs and positions follow those of the file, which is sorted.
    same = placed[1:, 0] == placed[:-1, 0]
    if (
        (placed[1:, 0] < placed[:-1, 0]).any()
        or (same & (placed[1:, 1] < placed[:-1, 1])).any()
        or (lines[:, 4:] < 0).any()
    ):
        raise UnfaithfulIndexError("is damaged, or is of a file that is not sorted")
    return lines


def _compare(lines: np.ndarray, handle: BinaryIO, major: int) -> None:
    file_end = os.fstat(handle.fileno()).st_size
    _, first = _container(handle, _DEFINITION, major)
    if len(lines) == 0:
        _refuse_reads_behind(handle, first, file_end, major)
        return
    new = np.append(True, lines[1:, 3] != lines[:-1, 3])
    starts = np.flatnonzero(new)
    offsets, ends = lines[starts, 3], np.append(starts[1:], len(lines)) - 1
    # A container's data ends with its last slice.
    behind = offsets + lines[ends, 4] + lines[ends, 5]
    heads = offsets[1:] - behind[:-1]
    slices = np.diff(np.append(starts, len(lines)))[:-1]
    odd = np.flatnonzero((heads <= 0) | (heads > _LONGEST_HEAD + 5 * slices))
    chosen = np.linspace(0, len(starts) - 1, min(len(starts), _LOOKED_AT)).astype(int)
    if offsets[0] != first:
        raise UnfaithfulIndexError("does not know the first reads of the file as it is")
    for row in sorted({*odd.tolist(), *chosen.tolist()}):
        contig, end = _container(handle, int(offsets[row]), major)
        own = set(lines[starts[row] : ends[row] + 1, 0].tolist())
        if contig != _SEVERAL and own != {contig}:
            raise UnfaithfulIndexError("leads to other reads than it says, so it is of another file")
        if row + 1 < len(offsets) and end != offsets[row + 1]:
            raise UnfaithfulIndexError("does not know some reads of the file as it is")
        if row + 1 == len(offsets):
            _refuse_reads_behind(handle, end, file_end, major)


def _refuse_reads_behind(handle: BinaryIO, offset: int, file_end: int, major: int) -> None:
    """Refuse an index behind whose last container there is one of reads with a place; the end mark says it has none."""
    if offset < file_end and _container(handle, offset, major)[0] != _UNPLACED:
        raise UnfaithfulIndexError("does not know the last reads of the file as it is")


def _container(handle: BinaryIO, offset: int, major: int) -> tuple[int, int]:
    """Return a container's contig (-1: none, -2: several) and where the next one begins."""
    handle.seek(offset)
    head = handle.read(_HEAD)
    length = int.from_bytes(head[:4], "little", signed=True)
    contig, at = _itf8(head, 4)
    for _ in range(3):  # start, bases of the reference, records
        _, at = _itf8(head, at)
    at += _ltf8_size(head[at]) if major > 2 else _itf8_size(head[at])  # number of the first record
    at += _ltf8_size(head[at])  # bases
    _, at = _itf8(head, at)  # blocks
    landmarks, at = _itf8(head, at)
    for _ in range(landmarks):
        _, at = _itf8(head, at)
    if length < 0 or landmarks < 0:
        raise ValueError("no container")
    return contig, offset + at + (4 if major > 2 else 0) + length


def _itf8(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of CRAM's ITF8 (specification, §2.3), signed, and where the next one begins."""
    size = _itf8_size(data[at])
    if size < 5:
        value = int.from_bytes(data[at : at + size], "big") & ((1 << 7 * size) - 1)
    else:
        high, low = int.from_bytes(data[at : at + 4], "big") & 0xFFFFFFF, data[at + 4] & 0xF
        value = high << 4 | low
    return value - (1 << 32) if value >> 31 else value, at + size


def _itf8_size(first: int) -> int:
    return next((size for size, bit in enumerate((0x80, 0x40, 0x20, 0x10), 1) if not first & bit), 5)


def _ltf8_size(first: int) -> int:
    return next((size for size, bit in enumerate((0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1), 1) if not first & bit), 9)
