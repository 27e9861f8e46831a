"""Walk over the bytes of a `.bai` (SAM specification v1, §5.2)."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.genomics.reads.record_fields import i32, u32

_PSEUDO_BIN = 37_450
"""Holds counts of reads, not chunks."""


@kernel
def find_contig(content: np.ndarray, contig: int) -> tuple[int, int, int]:
    """Return (smallest offset of a chunk, place of the linear index, its entries) of a contig; entries -1 if damaged.

    A contig without reads has no entries.
    """
    size = content.size
    damaged = 0, 0, -1
    if size < 8 or content[0] != 66 or content[1] != 65 or content[2] != 73 or content[3] != 1:
        return damaged
    contigs = i32(content, 4)
    if not 0 <= contig < contigs:
        return damaged
    at = 8
    for current in range(contig + 1):
        if at + 4 > size:
            return damaged
        bins = i32(content, at)
        at += 4
        first = 2**62
        for _ in range(bins):
            if at + 8 > size:
                return damaged
            number, chunks = u32(content, at), i32(content, at + 4)
            at += 8
            if chunks < 0 or at + 16 * chunks > size:
                return damaged
            if current == contig and number != _PSEUDO_BIN:
                for k in range(chunks):
                    place = at + 16 * k
                    first = min(first, u32(content, place) | u32(content, place + 4) << 32)
            at += 16 * chunks
        if at + 4 > size:
            return damaged
        entries = i32(content, at)
        at += 4
        if entries < 0 or at + 8 * entries > size:
            return damaged
        if current == contig:
            return first, at, entries
        at += 8 * entries
    return damaged
