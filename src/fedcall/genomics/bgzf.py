"""Inflate stretches of a BGZF file (SAM specification v1, §4.1): htslib's own inflation takes twice as long."""

import struct
from collections.abc import Iterator

from isal import igzip_lib, isal_zlib

_MAGIC = b"\x1f\x8b\x08\x04"
_LARGEST = 65_536


class DamagedBlockError(ValueError):
    """A block that is no BGZF, is cut off, or does not hold what its checksum says."""


def inflate(content: memoryview, offset: int) -> Iterator[bytes]:
    """Yield the data of each block from a virtual offset on: upper 48 bits a block's place, lower 16 one in its data.

    Parameters
    ----------
    content : the whole file
    offset : virtual offset of the first byte wanted

    Raises
    ------
    DamagedBlockError
        At the first block that cannot be believed.
    """
    skipped = offset & 0xFFFF
    for _, data in blocks(content, offset >> 16):
        yield data[skipped:] if skipped else data
        skipped = 0


def between(content: memoryview, begin: int, end: int) -> Iterator[bytes]:
    """Yield the data between two virtual offsets, or from one to the end of the file; errors as of `inflate`."""
    at, skipped = begin >> 16, begin & 0xFFFF
    last, wanted = end >> 16, end & 0xFFFF
    if at == last and skipped >= wanted:
        return
    for following, data in blocks(content, at):
        stop = wanted if at == last else len(data)
        if skipped > len(data) or stop > len(data):
            raise DamagedBlockError(f"the block at byte {at} has no byte {max(skipped, stop)}")
        if stop > skipped:
            yield data[skipped:stop]
        at, skipped = following, 0
        if at > last or (at == last and not wanted):
            return


def blocks(content: memoryview, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield for each block from the one at a byte on where the next begins, and its data; errors as of `inflate`."""
    while at < len(content):
        first, size = _block(content, at)
        end = at + size
        try:
            data = isal_zlib.decompress(content[first : end - 8], -15, _LARGEST)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # isal ships no types for it
            raise DamagedBlockError(f"the block at byte {at} cannot be inflated ({error})") from None
        checksum, length = struct.unpack_from("<II", content, end - 8)
        if len(data) != length or isal_zlib.crc32(data) != checksum:
            raise DamagedBlockError(f"the block at byte {at} does not fit its checksum")
        yield end, data
        at = end


def _block(content: memoryview, at: int) -> tuple[int, int]:
    """Return where a block's compressed data begins, and the size of the block; all lie inside the file."""
    if at + 18 > len(content) or content[at : at + 4] != _MAGIC:
        raise DamagedBlockError(f"no block begins at byte {at}")
    extra = int.from_bytes(content[at + 10 : at + 12], "little")
    first = at + 12 + extra
    field = at + 12
    while field + 6 <= first <= len(content):
        name, length = bytes(content[field : field + 2]), int.from_bytes(content[field + 2 : field + 4], "little")
        if name == b"BC" and length == 2:
            size = int.from_bytes(content[field + 4 : field + 6], "little") + 1
            if first + 8 <= at + size <= len(content):
                return first, size
            raise DamagedBlockError(f"the block at byte {at} is cut off")
        field += 4 + length
    raise DamagedBlockError(f"the block at byte {at} does not tell its size")
