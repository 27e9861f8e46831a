"""Whether a `.bai`, `.tbi` or `.csi` is the index of a file as it is: htslib believes any, and reads what it names.

An index that is cut, damaged, or of an earlier file of the same name loses records without a word. What is checked
costs no walk through the file: that the index is whole; that its chunks follow each other without a gap, each level of
bins in the order of the genome; that no entry of the linear index lies behind a record of its window; and at the file's
ends, at the first records of contigs and wherever there is a gap after all, that the file agrees.

Formats: SAM specification v1, §5.1.1 and §5.2; CSIv1; Tabix.
"""

import gzip
import mmap
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.files import file_stamp
from fedcall.genomics import binning_index_kernels as kernels
from fedcall.genomics.bgzf import DamagedBlockError, between, blocks, inflate

Records = Literal["bam", "vcf", "bcf"]
_BAI_SHIFT, _BAI_DEPTH = 14, 5
_LOOKED_AT = 100
"""Chunks whose first record is held against what the index says."""
_UNMAPPED = 4
_LONGEST_PLACE = 10_000
"""Bytes of a line in which its contig and its position stand."""
_TABIX = 28
"""Bytes of what a tabix index says about columns, before the names."""
_FILE_END = 1 << 62
NO_INDEX = "is no index"
"""What is said of a file with an index's name and another beginning: htslib takes it for none."""


class UnfaithfulIndexError(ValueError):
    """An index that is damaged, or is not of the file as it is; the text says which, as the end of a sentence."""


@dataclass(frozen=True)
class BinningIndex:
    """What an index says about where records lie.

    Attributes
    ----------
    contigs : how many it knows
    names : of the contigs, where it has them
    shift, depth : bins of the lowest level are 2^shift bases long, and there are so many levels above
    chunks : int64, shape (n, 4), in the order of the file: contig, bin, first and last virtual offset
    """

    contigs: int
    names: tuple[bytes, ...] | None
    shift: int
    depth: int
    chunks: np.ndarray

    def bases_of(self, number: int) -> tuple[int, int]:
        """Return where the bases of a bin begin and end, 0-based."""
        level = next(level for level in range(self.depth, -1, -1) if number >= _first_bin(level))
        length = 1 << self.shift + 3 * (self.depth - level)
        return (number - _first_bin(level)) * length, (number - _first_bin(level) + 1) * length


def check_index(index: Path, file: Path, records: Records) -> None:
    """Refuse an index that is damaged, or is not of the file as it is.

    Parameters
    ----------
    index : `.bai`, `.tbi` or `.csi`
    file : BGZF

    Raises
    ------
    UnfaithfulIndexError
        Says what is wrong with the index.
    """
    stamps = (file_stamp(index), file_stamp(file))
    reason = _reason(index, file, records, stamps)
    if reason is not None:
        raise UnfaithfulIndexError(reason)


def read_index(index: Path) -> BinningIndex:
    """Return what an index says, after checking it against itself.

    Raises
    ------
    UnfaithfulIndexError
        If it is damaged.
    """
    content = _inflated(index)
    kind = content[:4]
    if kind not in (b"BAI\x01", b"TBI\x01", b"CSI\x01"):
        raise UnfaithfulIndexError(NO_INDEX)
    is_csi, shift, depth, names, at = kind == b"CSI\x01", _BAI_SHIFT, _BAI_DEPTH, None, 4
    if is_csi:
        shift, depth, extra = (_int(content, at) for at in (4, 8, 12))
        if not (0 < shift <= 40 and 0 <= depth <= 9) or extra < 0 or 16 + extra > len(content):
            raise UnfaithfulIndexError("is damaged")
        names, at = _names(content[16 : 16 + extra]), 16 + extra
    contigs = _int(content, at)
    at += 4
    if kind == b"TBI\x01":
        names = _names(content[at:])
        if names is None:
            raise UnfaithfulIndexError("is damaged")
        at += _TABIX + _int(content, at + _TABIX - 4)
    smallest = 4 if is_csi else 8
    if not 0 <= contigs <= len(content) // smallest or (names is not None and is_csi and len(names) != contigs):
        raise UnfaithfulIndexError("is damaged")
    data = np.frombuffer(content, np.uint8)
    chunks, linear = np.empty((len(content) // 16 + 1, 4), np.int64), np.empty((contigs, 2), np.int64)
    number, at = kernels.list_chunks(data, at, contigs, _first_bin(depth + 1) + 1, is_csi, chunks, linear)
    # Behind the contigs there may be the number of records without a place, and nothing else.
    if number < 0 or len(content) - at not in (0, 8):
        raise UnfaithfulIndexError("is damaged")
    chunks = chunks[:number]
    if not is_csi and not kernels.linear_fits(data, linear, chunks, _first_bin(depth)):
        raise UnfaithfulIndexError("is damaged")
    _refuse_disorder(chunks, depth)
    return BinningIndex(contigs, names, shift, depth, chunks[np.argsort(chunks[:, 2], kind="stable")])


@lru_cache(maxsize=32)
def _reason(index: Path, file: Path, records: Records, stamps: tuple[tuple[int, int], ...]) -> str | None:
    try:
        found = read_index(index)
        with (
            open(file, "rb") as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            _compare(found, _File(view, records))
    except UnfaithfulIndexError as error:
        return str(error)
    except (DamagedBlockError, ValueError):
        return "leads to no record of the file as it is"
    return None


def _compare(index: BinningIndex, file: "_File") -> None:
    chunks = index.chunks
    if file.records == "bam" and index.contigs > file.contigs():
        raise UnfaithfulIndexError("knows more contigs than the file")
    if len(chunks) == 0:
        if file.has_records_between(file.header_end(), _FILE_END):
            raise UnfaithfulIndexError("does not know the records of the file as it is")
        return
    begins = chunks[:, 2]
    reached = np.maximum.accumulate(chunks[:, 3])
    own = chunks[:, 0]
    if (own[1:] < own[:-1]).any():
        raise UnfaithfulIndexError("is damaged")
    for row in np.flatnonzero(begins[1:] > reached[:-1]).tolist():
        if file.has_records_between(int(reached[row]), int(begins[row + 1])):
            raise UnfaithfulIndexError("does not know some records of the file as it is")
    header_end = file.header_end()
    if begins[0] < header_end or file.has_records_between(header_end, int(begins[0])):
        raise UnfaithfulIndexError("does not know the first records of the file as it is")
    for row in np.linspace(0, len(chunks) - 1, min(len(chunks), _LOOKED_AT)).astype(int).tolist():
        contig, number, begin, _ = (int(value) for value in chunks[row])
        shown, position = file.place_of(begin)
        start, end = index.bases_of(number)
        if shown != (contig if index.names is None else index.names[contig]) or not (
            start <= position < end or position < 0
        ):
            raise UnfaithfulIndexError("leads to other records than it says, so it is damaged or of another file")
    if file.has_records_between(int(reached[-1]), _FILE_END):
        raise UnfaithfulIndexError("does not know the last records of the file as it is")


class _File:
    """What the file itself says at a few places."""

    def __init__(self, content: memoryview, records: Records) -> None:
        self.content, self.records = content, records

    def header_end(self) -> int:
        """Return a virtual offset at which the first record begins, or the end of the file."""
        return _header_end(self.content, self.records)

    def contigs(self) -> int:
        """Return how many contigs a BAM's header has."""
        text = _int(self._start(0, 8), 4)
        return _int(self._start(0, 12 + text), 8 + text)

    def place_of(self, offset: int) -> tuple[int | bytes, int]:
        """Return the contig and the 0-based position of the record at an offset; of a VCF's contig the name."""
        if self.records == "vcf":
            name, position = self._start(offset, _LONGEST_PLACE).split(b"\t", 2)[:2]
            return name, int(position) - 1
        data = self._start(offset, 16)
        at = 4 if self.records == "bam" else 8
        return _int(data, at), _int(data, at + 4)

    def has_records_between(self, begin: int, end: int) -> bool:
        """Say whether records that an index should know lie between two offsets.

        Of a BAM these are those with a place that are not unmapped: some programs index no others.
        """
        if self.records != "bam":
            return any(data for data in between(self.content, begin, end))
        rest = b""
        for data in between(self.content, begin, end):
            rest += data
            at = 0
            while at + 36 <= len(rest):
                length, contig = _int(rest, at), _int(rest, at + 4)
                if contig >= 0 and not int.from_bytes(rest[at + 18 : at + 20], "little") & _UNMAPPED:
                    return True
                if contig < 0:  # behind the records with a place
                    return False
                if length < 32:
                    raise UnfaithfulIndexError("leads to no record of the file as it is")
                if at + 4 + length > len(rest):
                    break
                at += 4 + length
            rest = rest[at:]
        return False

    def _start(self, offset: int, size: int) -> bytes:
        data = b""
        for block in inflate(self.content, offset):
            data += block
            if len(data) >= size:
                break
        return data[:size]


def _header_end(content: memoryview, records: Records) -> int:
    """Return the virtual offset behind the header; that of a block's end is the next block's, as in indexes."""
    data, ends, enough = b"", [], 0
    for following, block in blocks(content, 0):
        data += block
        ends.append((len(data), following))
        if len(data) >= enough:
            enough = 2 * len(data)
            found = _header_length(data, records)
            if found is not None and found <= len(data):
                break
    else:
        found = _header_length(data, records)
        if found is None and records == "vcf":
            return len(content) << 16
    if found is None or found > len(data):
        raise UnfaithfulIndexError("is of another file")
    start, address = 0, 0
    for end, following in ends:
        if found < end:
            return address << 16 | found - start
        start, address = end, following
    return address << 16


def _header_length(data: bytes, records: Records) -> int | None:
    """Return how many bytes the header takes, or None where more of the file must be seen."""
    if records == "bam":
        return _bam_header(data)
    if records == "bcf":
        return 9 + _int(data, 5) if len(data) >= 9 else None
    return _vcf_header(data)


def _bam_header(data: bytes) -> int | None:
    if len(data) < 12:
        return None
    at = 8 + _int(data, 4)
    if at + 4 > len(data):
        return None
    contigs, at = _int(data, at), at + 4
    for _ in range(contigs):
        if at + 4 > len(data):
            return None
        at += 8 + _int(data, at)
    return at


def _vcf_header(data: bytes) -> int | None:
    """Return where the first line begins that is no comment."""
    at = 0
    while at < len(data):
        if data[at : at + 1] != b"#":
            return at
        end = data.find(b"\n", at)
        if end < 0:
            return None
        at = end + 1
    return None


def _refuse_disorder(chunks: np.ndarray, depth: int) -> None:
    """Refuse chunks of one level of bins that are not in the order of the genome."""
    first_bins = np.array([_first_bin(level) for level in range(depth + 2)])
    level = np.searchsorted(first_bins, chunks[:, 1], side="right")
    place = chunks[:, 0] * (depth + 2) + level
    order = np.lexsort((chunks[:, 2], chunks[:, 1], place))
    place, begins = place[order], chunks[order, 2]
    if ((place[1:] == place[:-1]) & (begins[1:] < begins[:-1])).any():
        raise UnfaithfulIndexError("is damaged")


def _first_bin(level: int) -> int:
    """Return the number of the first bin of a level; level 0 is one bin of everything."""
    return ((1 << 3 * level) - 1) // 7


def _names(content: bytes) -> tuple[bytes, ...] | None:
    """Return the names of contigs behind what a tabix index says of columns; None where there are none.

    Raises
    ------
    UnfaithfulIndexError
        If it was made for other columns than a VCF has.
    """
    size = _int(content, _TABIX - 4) if len(content) >= _TABIX else -1
    if size < 0 or _TABIX + size > len(content):
        return None
    kind, contig, position, _, comment = (_int(content, 4 * k) for k in range(5))
    if kind & 0xFFFF not in (0, 2) or (contig, position, comment) != (1, 2, ord("#")):
        raise UnfaithfulIndexError("is damaged, or was made for another format")
    return tuple(content[_TABIX : _TABIX + size].split(b"\0")[:-1])


def _inflated(index: Path) -> bytes:
    content = index.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise UnfaithfulIndexError("is damaged") from None


def _int(data: bytes, at: int) -> int:
    """Return four bytes as a number, or -1 behind the end."""
    return int.from_bytes(data[at : at + 4], "little", signed=True) if at + 4 <= len(data) else -1
