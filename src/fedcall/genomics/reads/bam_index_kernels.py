"""Walk over the bytes of a `.bai` (SAM specification v1, §5.2)."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import i32, u32

_PSEUDO_BIN = 37_450
"""Holds counts of reads, not chunks."""


@kernel
def list_contigs(content: np.ndarray, contigs: np.ndarray) -> int:
    """Write for each contig the first offset of a chunk, the place of its linear index, its entries, the last offset.

    Parameters
    ----------
    contigs : int64, shape (as many as the index says, 4), written; a contig without reads has no entries

    Returns
    -------
    number of contigs written: fewer than there should be if the index is damaged
    """
    size = content.size
    at = 8
    for contig in range(len(contigs)):
        if at + 4 > size:
            return contig
        bins = i32(content, at)
        at += 4
        first, last = 2**62, 0
        for _ in range(bins):
            if at + 8 > size:
                return contig
            number, chunks = u32(content, at), i32(content, at + 4)
            at += 8
            if chunks < 0 or at + 16 * chunks > size:
                return contig
            if number != _PSEUDO_BIN:
                for k in range(chunks):
                    place = at + 16 * k
                    first = min(first, u32(content, place) | u32(content, place + 4) << 32)
                    last = max(last, u32(content, place + 8) | u32(content, place + 12) << 32)
            at += 16 * chunks
        if at + 4 > size:
            return contig
        entries = i32(content, at)
        at += 4
        if entries < 0 or at + 8 * entries > size:
            return contig
        contigs[contig, 0], contigs[contig, 1], contigs[contig, 2], contigs[contig, 3] = first, at, entries, last
        at += 8 * entries
    return len(contigs)
