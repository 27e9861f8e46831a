"""Walk over the bytes of a binning index: `.bai`, `.tbi` or `.csi` (SAM specification v1, §5; CSI, TBI)."""

import numpy as np

from fedcall.compiled import kernel


@kernel
def _number(content: np.ndarray, at: int, size: int) -> int:
    """Return a little-endian number of `size` bytes, signed where it has eight."""
    value: int = 0
    for k in range(size):
        value |= int(content[at + k]) << (8 * k)
    return value


@kernel
def list_chunks(
    content: np.ndarray, at: int, contigs: int, pseudo: int, is_csi: bool, chunks: np.ndarray, linear: np.ndarray
) -> tuple[int, int]:
    """List the chunks of all bins, and where each contig's linear index lies.

    Parameters
    ----------
    content : uint8, the inflated index
    at : where the first contig begins
    contigs : how many the index says it has
    pseudo : number of the bin that holds counts, not chunks, and is the highest there may be
    is_csi : whether bins have an offset of their own and contigs no linear index
    chunks : int64, shape (one for every 16 bytes, 4), written: contig, bin, first and last virtual offset
    linear : int64, shape (contigs, 2), written: place and number of entries

    Returns
    -------
    (chunks written, offset behind the last contig), or (-1, 0) where lengths contradict each other
    """
    size, rows = content.size, 0
    head = 16 if is_csi else 8
    for contig in range(contigs):
        if at + 4 > size:
            return -1, 0
        bins = _number(content, at, 4)
        at += 4
        for _ in range(bins):
            if at + head > size:
                return -1, 0
            bin_number, number = _number(content, at, 4), _number(content, at + head - 4, 4)
            low = _number(content, at + 4, 8) if is_csi else 0
            at += head
            if bin_number > pseudo or at + 16 * number > size:
                return -1, 0
            if bin_number < pseudo:
                for k in range(number):
                    begin, end = _number(content, at + 16 * k, 8), _number(content, at + 16 * k + 8, 8)
                    # No record of a bin lies before the bin's own offset, and none ends before it begins.
                    if begin < low or end < begin:
                        return -1, 0
                    chunks[rows, 0], chunks[rows, 1], chunks[rows, 2], chunks[rows, 3] = contig, bin_number, begin, end
                    rows += 1
            at += 16 * number
        if not is_csi:
            if at + 4 > size:
                return -1, 0
            entries = _number(content, at, 4)
            at += 4
            if at + 8 * entries > size:
                return -1, 0
            linear[contig, 0], linear[contig, 1] = at, entries
            at += 8 * entries
    return rows, at


@kernel
def linear_fits(content: np.ndarray, linear: np.ndarray, chunks: np.ndarray, first_leaf: int) -> bool:
    """Say whether no window's offset lies behind a record that the bins place in the window.

    Parameters
    ----------
    linear, chunks : from `list_chunks`
    first_leaf : number of the bin of the first window
    """
    for contig in range(len(linear)):
        before = 0
        for k in range(linear[contig, 1]):
            offset = _number(content, linear[contig, 0] + 8 * k, 8)
            if offset != 0 and offset < before:
                return False
            before = max(before, offset)
    for row in range(len(chunks)):
        window = chunks[row, 1] - first_leaf
        if window < 0:
            continue
        place, entries = linear[chunks[row, 0]]
        if window >= entries or _number(content, place + 8 * window, 8) > chunks[row, 2]:
            return False
    return True
