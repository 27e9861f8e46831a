"""Fetch the usable reads of a region as raw BAM records: htslib decompresses and filters, nothing is parsed in Python.

Decompressed reads are kept in anonymous memory: they never get a name in a file system, and vanish with the process.
"""

import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

from fedcall.errors import FedcallError
from fedcall.genomics import pileup_kernels as kernels

DROPPED_FLAGS = 0x904 | 0x400 | 0x200
"""Unmapped, secondary, supplementary; duplicate; failed quality control."""
MIN_MAPPING_QUALITY = 5
_LONGEST_PAIRED_SPAN = 100_000


@dataclass(frozen=True)
class Records:
    """Reads that overlap a region, in the order of the file.

    Attributes
    ----------
    buffer : uint8
        The raw records.
    table : int64, shape (n, kernels.RECORD_COLUMNS)
        Checked fields and offsets; the columns are named in `pileup_kernels`.
    mates : int64, shape (n,)
        The fragment's other read, where both may overlap; else -1.
    indels : int
        Insertions and deletions in all CIGARs.
    """

    buffer: np.ndarray
    table: np.ndarray
    mates: np.ndarray
    indels: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def fragment(self) -> np.ndarray:
        """The smaller row of each read and its mate: equal for both reads of an overlapping fragment."""
        rows = np.arange(len(self.table))
        return np.where(self.mates >= 0, np.minimum(rows, self.mates), rows)

    @property
    def orientation(self) -> np.ndarray:
        """+1 for reads of F1R2 fragments, -1 for F2R1, 0 for unpaired reads (int8)."""
        flag = self.table[:, kernels.FLAG]
        first, reverse = (flag & 0x40) > 0, (flag & 0x10) > 0
        known = ((flag & 1) > 0) & (first != ((flag & 0x80) > 0))
        return np.where(known, np.where(first != reverse, 1, -1), 0).astype(np.int8)

    @property
    def reverse(self) -> np.ndarray:
        """Whether the read lies on the reverse strand (bool)."""
        return (self.table[:, kernels.FLAG] & 0x10) > 0

    @property
    def mapping_quality(self) -> np.ndarray:
        """Mapping quality; 255 ("unknown") counts as 30 (int64)."""
        quality = self.table[:, kernels.MAPPING_QUALITY]
        return np.where(quality == 255, 30, quality)


def fetch_records(
    alignments: Path, reference: Path, contig: str, contig_index: int, start: int, end: int, keep: float = 1.0
) -> Records:
    """Return the reads that overlap [start, end) of a contig, with mates paired.

    Parameters
    ----------
    contig_index : the contig's place in the header of `alignments`.
    start, end : 0-based, half open.
    keep : share of the fragments to keep, chosen by a hash of their names.

    Raises
    ------
    FedcallError
        If samtools cannot read the region, or a record is damaged; names the file and the region.
    """
    where = f"{alignments}: {contig}:{start + 1}-{end}"
    blocks = _view(alignments, reference, contig, start, end, keep, where)
    content = np.empty(blocks.size, np.uint8)
    written, error = kernels.unwrap_stored_blocks(blocks, content)
    _refuse(error, where)
    buffer = content[:written]
    offset = kernels.skip_header(buffer)
    if offset < 0:
        raise FedcallError(f"{where}: damaged BAM header; make the file again")
    count, error = kernels.count_records(buffer, offset)
    _refuse(error, where)
    table = np.empty((count, kernels.RECORD_COLUMNS), np.int64)
    hashes = np.empty(count, np.uint64)
    indels, error = kernels.index_records(buffer, offset, contig_index, table, hashes)
    _refuse(error, where)
    return Records(buffer, table, _pair(buffer, table, hashes), indels)


def _pair(buffer: np.ndarray, table: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    mates = np.full(len(table), -1, np.int64)
    position, end, mate = (table[:, column] for column in (kernels.POSITION, kernels.END, kernels.MATE_POSITION))
    span = end - position
    longest = int(np.minimum(span, _LONGEST_PAIRED_SPAN).max(initial=0))
    may_overlap = (mate >= 0) & (span <= _LONGEST_PAIRED_SPAN) & (mate < end) & (position < mate + longest)
    rows = np.flatnonzero(may_overlap)
    order = rows[np.argsort(hashes[rows], kind="stable")]
    kernels.pair_mates(buffer, table, hashes, order, mates)
    return mates


def _view(alignments: Path, reference: Path, contig: str, start: int, end: int, keep: float, where: str) -> np.ndarray:
    region = f"{{{contig}}}:{start + 1}-{end}"
    with _anonymous_file() as handle:
        options = [
            "--uncompressed",
            "--no-PG",
            "--excl-flags",
            hex(DROPPED_FLAGS),
            "--min-MQ",
            str(MIN_MAPPING_QUALITY),
            *(("--subsample", str(keep), "--subsample-seed", "1") if keep < 1 else ()),
        ]
        try:
            pysam.view(
                *options,
                *("--reference", str(reference)),
                *("-o", f"/proc/self/fd/{handle.fileno()}"),
                str(alignments),
                region,
                catch_stdout=False,
            )
        except pysam.SamtoolsError as error:
            reason = str(error).strip().splitlines()
            raise FedcallError(f"{where}: samtools cannot read it: {reason[-1] if reason else 'no reason'}") from None
        size = os.fstat(handle.fileno()).st_size
        if size == 0:
            raise FedcallError(f"{where}: samtools wrote nothing; check the file with `samtools quickcheck`")
        return np.frombuffer(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ), np.uint8)


def _anonymous_file():
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fedcall-reads"), "w+b")
    return tempfile.TemporaryFile()


def _refuse(error: int, where: str) -> None:
    if error != kernels.OK:
        raise FedcallError(f"{where}: {kernels.ERRORS[error]}; the file is damaged, make it again")
