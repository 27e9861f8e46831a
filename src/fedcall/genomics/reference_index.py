"""Hold the index of a FASTA against the file: htslib believes an index of an earlier file, and reads other bases.

Of a plain file every contig is looked at, of a bgzipped one a few: where the index says that a contig begins there is a
line with its name before, and where it ends the file ends, or another contig begins.
"""

import mmap
import struct
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.bgzf import DamagedBlockError, inflate
from fedcall.shown import shown

_LONGEST_NAME = 4_096
_LONGEST_LINE = 1 << 20
_BEHIND = 64
_LOOKED_AT_IF_PACKED = 8

Read = Callable[[int, int], bytes]
"""Bytes of the unpacked file from an offset on; fewer at its end."""


NAME_CHARACTERS = 60
"""Of a contig's or a sample's name in a message: what is longer would leave no room for what to do."""


def index_rows(index: Path) -> list[list[str]]:
    """Return the fields of each line of a `.fai`, whatever the encoding of a name."""
    # Not `splitlines`, which takes a dozen other characters for the end of a line, too.
    return [line.split("\t") for line in index.read_text("utf-8", "surrogateescape").split("\n") if line]


def refuse_stale_index(reference: Path) -> None:
    """Refuse a FASTA whose `.fai` is that of another file.

    Raises
    ------
    FedcallError
        One line that names the index, a contig, and what to do.
    """
    index = Path(f"{reference}.fai")
    rows = index_rows(index)
    with open(reference, "rb") as handle:
        if handle.seek(0, 2) == 0:
            raise FedcallError(f"{reference}: empty; a FASTA is needed")
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            packed = bytes(view[:2]) == b"\x1f\x8b"
            read = _unpacked(view, Path(f"{reference}.gzi")) if packed else lambda at, size: bytes(view[at : at + size])
            if packed and len(rows) > _LOOKED_AT_IF_PACKED:
                rows = [*rows[:: len(rows) // _LOOKED_AT_IF_PACKED], rows[-1]]
            for row in rows:
                if len(row) < 5 or not _fits(row[0], [int(value) for value in row[1:5]], read):
                    raise FedcallError(
                        f"{index}: contig '{shown(row[0], NAME_CHARACTERS)}' is not where the index says, so it is of"
                        f" another file; make it again with: samtools faidx {reference}"
                    )


def _fits(name: str, numbers: list[int], read: Read) -> bool:
    length, offset, bases, width = numbers
    reach, before = _LONGEST_NAME, b""
    while b"\n" not in before[:-1] and len(before) < offset and reach <= _LONGEST_LINE:
        before = read(max(0, offset - reach), min(reach, offset))
        reach *= 16
    line = before[before.rfind(b"\n", 0, -1) + 1 :]
    named = name.encode(errors="surrogateescape").split()
    if before[-1:] != b"\n" or line[:1] != b">" or line[1:].split()[:1] != named:
        return False
    if length == 0:
        return True
    if bases < 1 or width < bases:
        return False
    last = offset + (length - 1) // bases * width + (length - 1) % bases
    end = read(last, 1 + _BEHIND)
    ends_there = len(end) > 0 and not end[:1].isspace() and (len(end) == 1 or end[1:2].isspace())
    return ends_there and end[1:].lstrip()[:1] in (b"", b">")


def _unpacked(content: memoryview, index: Path) -> Read:
    """Return what reads a bgzipped file by its `.gzi`: pairs of a block's place and of its first byte unpacked."""
    try:
        pairs = [number for (number,) in struct.iter_unpack("<Q", index.read_bytes())][1:]
    except struct.error:
        raise FedcallError(f"{index}: cut off; make it again with: samtools faidx") from None
    places, starts = [0, *pairs[::2]], [0, *pairs[1::2]]

    def read(at: int, size: int) -> bytes:
        block = bisect_right(starts, at) - 1
        found, skipped = b"", at - starts[block]
        try:
            for data in inflate(content, places[block] << 16):
                found += data
                if len(found) >= skipped + size:
                    break
        except DamagedBlockError as error:
            raise FedcallError(f"{index}: does not fit its file, or the file is damaged ({error})") from None
        return found[skipped : skipped + size]

    return read
