"""Where in a BAM file the reads of a region begin: the linear part of its `.bai` (SAM specification v1, §5.2)."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedcall.files import file_stamp
from fedcall.genomics.reads.bam_index_kernels import list_contigs

_WINDOW = 14
"""One entry of the linear index for every 2^14 bases."""


def bai_of(alignments: Path) -> Path | None:
    """Return the `.bai` beside a BAM file, or nothing where it has none (its index may be a `.csi`)."""
    beside = Path(f"{alignments}.bai")  # looked for once a stretch, so the usual name comes first
    if os.path.isfile(beside):
        return beside
    other = Path(alignments).with_suffix(".bai")
    return other if other.is_file() else None


def first_offset(index: Path, contig: int, start: int) -> int | None:
    """Return a virtual offset at or before the first read that overlaps `start` or lies behind it.

    Parameters
    ----------
    index : a `.bai`
    contig : the contig's place in the BAM file's header
    start : 0-based position

    Returns
    -------
    The offset, or nothing where no read of the contig reaches so far.

    Raises
    ------
    ValueError
        If the index is damaged.
    """
    content, contigs = _read(index, *file_stamp(index))
    if not 0 <= contig < len(contigs):
        raise ValueError("the index is damaged")
    first_chunk, entries, count, _ = (int(value) for value in contigs[contig])
    window = start >> _WINDOW
    if window >= count:
        return None
    entry = entries + 8 * window
    offset = int.from_bytes(content[entry : entry + 8].tobytes(), "little")
    # Windows before the contig's first read have no offset of their own.
    return max(offset, first_chunk)


@lru_cache(maxsize=4)
def _read(index: Path, modified: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of an index, and of each contig before any damage what `list_contigs` writes."""
    content = np.frombuffer(index.read_bytes(), np.uint8)
    if len(content) < 8 or content[:4].tobytes() != b"BAI\x01":
        raise ValueError("not an index of a BAM file")
    number = int.from_bytes(content[4:8].tobytes(), "little")
    # Each contig takes eight bytes or more.
    contigs = np.empty((min(number, len(content) // 8), 4), np.int64)
    return content, contigs[: list_contigs(content, contigs)]
