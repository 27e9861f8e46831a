"""Reads of many short contigs, fetched by samtools in one go: each of its calls reads the whole header again.

Genomes with decoys and HLA have thousands of short contigs, drafts tens of thousands: one call a contig would take time
that grows with the square of their number.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedcall.errors import FedcallError
from fedcall.genomics.bgzf import inflate
from fedcall.genomics.binning_index import UnfaithfulIndexError, read_index
from fedcall.genomics.index_files import alignment_index
from fedcall.genomics.reads import record_kernels as kernels
from fedcall.genomics.reads.cram_index import names_all_contigs, placed_bytes
from fedcall.genomics.reads.opening import header_contigs, open_alignments

SHORT = 100_000
"""Bases of the longest contig that is fetched together with others."""
_TOGETHER = 1_000_000
"""Bases of contigs fetched at once, at most: bounds memory."""
_FEW = 50
"""Contigs below which fetching each by itself costs less than it saves."""
_DEEP = 4_000_000
"""Compressed bytes of reads on one contig, such as the mitochondrion, above which it is fetched by itself."""


@dataclass(frozen=True)
class Batch:
    """Records of contigs that follow each other in the header, raw: those of the k-th from `starts[k]` on."""

    first: int
    records: np.ndarray
    starts: np.ndarray

    def of(self, contig: int) -> np.ndarray:
        """Return the records (uint8) of the contig of that place in the header."""
        begin, end = self.starts[contig - self.first : contig - self.first + 2]
        return self.records[begin:end]


def batch_of(alignments: Path, reference: Path, contig: int, stamp: tuple[int, int]) -> range | None:
    """Return which contigs to fetch together with one, by their places in the header; None: it alone.

    Parameters
    ----------
    stamp : changes whenever the file does
    """
    return _batches(alignments, reference, stamp).get(contig)


def take_apart(content: memoryview, contigs: range, where: str) -> Batch:
    """Return the records of an uncompressed BAM of a few contigs, taken apart by contig."""
    records = np.frombuffer(b"".join(inflate(content, 0)), np.uint8)
    behind = kernels.skip_header(records)
    starts = np.empty(len(contigs) + 1, np.int64)
    if behind < 0 or not kernels.contig_starts(records, behind, contigs.start, starts):
        raise FedcallError(f"{where}: a record is cut off, or not in the file's order; make the file again")
    return Batch(contigs.start, records, starts)


@lru_cache(maxsize=2)
def _batches(alignments: Path, reference: Path, stamp: tuple[int, int]) -> dict[int, range]:
    """Return the contigs that are fetched together, for each of them."""
    with open_alignments(alignments, reference) as handle:
        lengths = list(header_contigs(handle).values())
    deep = _deep(alignments)
    batches: list[range] = []
    bases = 0
    for contig, length in enumerate(lengths):
        if length > SHORT or contig in deep:
            continue
        last = batches[-1] if batches else None
        if last is not None and last.stop == contig and bases + length <= _TOGETHER:
            batches[-1], bases = range(last.start, contig + 1), bases + length
        else:
            batches.append(range(contig, contig + 1))
            bases = length
    if sum(len(batch) for batch in batches) < _FEW:
        return {}
    return {contig: batch for batch in batches for contig in batch if len(batch) > 1}


def contigs_with_reads(alignments: Path) -> set[int] | None:
    """Return the contigs, by their places in the header, on which there are reads; None where no index says it."""
    placed = _placed_bytes(alignments)
    index = alignment_index(alignments)
    if placed is None or index is None or (index.suffix == ".crai" and not names_all_contigs(index)):
        return None
    return set(np.unique(placed[0]).tolist())


def _deep(alignments: Path) -> set[int]:
    """Return contigs on which there are many bytes of reads."""
    placed = _placed_bytes(alignments)
    if placed is None or len(placed[0]) == 0:
        return set()
    return set(np.flatnonzero(np.bincount(*placed) > _DEEP).tolist())


def _placed_bytes(alignments: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return contigs and compressed bytes of the stretches of reads that the index knows."""
    index = alignment_index(alignments)
    if index is None:
        return None
    try:
        if index.suffix == ".crai":
            return placed_bytes(index)
        chunks = read_index(index).chunks
    except UnfaithfulIndexError as error:
        raise FedcallError(f"{index}: the index {error}; make it again with: samtools index") from None
    return chunks[:, 0], (chunks[:, 3] >> 16) - (chunks[:, 2] >> 16)
