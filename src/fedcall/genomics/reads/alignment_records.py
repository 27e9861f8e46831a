"""Fetch the usable reads of a region as raw BAM records; nothing is parsed in Python.

A BAM file is inflated from the place its index names. CRAM, other indexes and thinned reads go through samtools, into
anonymous memory: decompressed reads never get a name in a file system, and vanish with the process.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import pysam

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
from fedcall.genomics.bgzf import DamagedBlockError, inflate
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reads import record_kernels as kernels
from fedcall.genomics.reads.bam_index import bai_of, first_offset
from fedcall.genomics.reads.opening import open_alignments
from fedcall.genomics.reads.packed_reference import refuse_other_reference
from fedcall.genomics.reads.short_contigs import Batch, batch_of, take_apart
from fedcall.genomics.reads.workspace import Room, Workspace

DROPPED_FLAGS = 0x904 | 0x400 | 0x200
"""Unmapped, secondary, supplementary; duplicate; failed quality control."""
MIN_MAPPING_QUALITY = 5
_LONGEST_PAIRED_SPAN = 100_000
_SHORTEST_RECORD = 36
_BATCH_BYTES = 1 << 18
"""Inflated at once: little enough to be in the processor's cache when its records are looked at."""
_WITH_HEADER, _PLACED, _ALONE = range(3)
"""What bytes begin with: a header; a record to which an index leads; a record of the contig, which is alone."""


@dataclass(frozen=True)
class Records:
    """Reads that overlap a region, in the order of the file.

    Attributes
    ----------
    buffer : uint8
        The raw records.
    table : int64, shape (n, fields.RECORD_COLUMNS)
        Checked fields and offsets; the columns are named in `record_fields`.
    mates : int64, shape (n,)
        The fragment's other read, where both may overlap; else -1.
    indels : int
        Insertions and deletions in all CIGARs.
    settled : bool, shape (n,)
        Reads laid along an assembled haplotype (`reassembly`).
    room : Room
        Where the buffer lies.
    unusual : int
        Reads that are spelled or aligned in words that `spell_plainly` takes out.
    """

    buffer: np.ndarray
    table: np.ndarray
    mates: np.ndarray
    indels: int
    settled: np.ndarray
    room: Room
    unusual: int = 0

    def __len__(self) -> int:
        return len(self.table)

    def extended(self, added: np.ndarray) -> np.ndarray:
        """Return the buffer with further bytes (uint8) behind it, without a copy where there is room."""
        size = len(self.buffer) + len(added)
        buffer = self.room.take(size, kept=len(self.buffer))[:size]
        buffer[len(self.buffer) :] = added
        return buffer

    @cached_property
    def fragment(self) -> np.ndarray:
        """The smaller row of each read and its mate: equal for both reads of an overlapping fragment."""
        rows = np.arange(len(self.table))
        return np.where(self.mates >= 0, np.minimum(rows, self.mates), rows)


def fetch_records(
    alignments: Path,
    reference: Path,
    contig: str,
    contig_index: int,
    start: int,
    end: int,
    keep: float = 1.0,
    workspace: Workspace | None = None,
) -> Records:
    """Return the reads that overlap [start, end) of a contig, with mates paired.

    Parameters
    ----------
    contig_index : place of the contig in the alignments' header
    keep : share of the fragments to return, drawn by name: all reads of a fragment, in every region, or none
    workspace : where the reads may lie; its next use ends the life of the records returned

    Raises
    ------
    FedcallError
        If a record is damaged; names the file and the region.
    """
    where = f"{alignments}: {contig}:{start + 1}-{end}"
    span = (contig_index, start, end)
    workspace = workspace or Workspace()
    with open(alignments, "rb") as handle:
        is_bgzf = handle.read(2) == b"\x1f\x8b"
        index = bai_of(alignments) if is_bgzf and keep == 1 else None
        if index is not None:
            try:
                offset = first_offset(index, contig_index, start)
            except ValueError:
                raise FedcallError(f"{index}: damaged; make it again with: samtools index {alignments}") from None
            if offset is None:
                return _paired(workspace, 0, workspace.table.take(0)[:0], 0)
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                return _read(inflate(view, offset), _PLACED, span, workspace, where)
    source = _Source(alignments, reference, keep, file_stamp(alignments))
    together = batch_of(alignments, reference, contig_index, source.stamp)
    if together is not None:
        records = _fetch_together(source, together).of(contig_index).data
        return _read(iter([records] if len(records) else []), _ALONE, span, workspace, where)
    with _view(source, [f"{{{contig}}}:{start + 1}-{end}"], where) as content, memoryview(content) as view:
        return _read(inflate(view, 0), _WITH_HEADER, span, workspace, where)


@dataclass(frozen=True)
class _Source:
    """Alignments that samtools reads; the stamp changes whenever the file does."""

    alignments: Path
    reference: Path
    keep: float
    stamp: tuple[int, int]


@lru_cache(maxsize=1)
def _fetch_together(source: _Source, contigs: range) -> Batch:
    with open_alignments(source.alignments, source.reference) as handle:
        rows = [(handle.get_reference_name(contig), handle.lengths[contig]) for contig in contigs]
    where = f"{source.alignments}: {rows[0][0]} to {rows[-1][0]}"
    with _anonymous_file() as bed:
        # A list of names would be taken apart at their colons. What several contigs share is decompressed once.
        bed.write("".join(f"{name}\t0\t{length}\n" for name, length in rows).encode())
        bed.flush()
        chosen = ["--use-index", "--target-file", f"/proc/self/fd/{bed.fileno()}"]
        with _view(source, [], where, chosen) as content, memoryview(content) as view:
            return take_apart(view, contigs, where)


def _read(
    blocks: Iterator[bytes | memoryview], how: int, span: tuple[int, int, int], workspace: Workspace, where: str
) -> Records:
    """Take in blocks to the first record behind the span (contig, start, end).

    Parameters
    ----------
    blocks : inflated; they begin with a header, or with a record: of a place in the file, or of the contig alone
    """
    contig, start, end = span
    in_header = how == _WITH_HEADER
    size = behind = rows = indels = unusual = 0
    table = workspace.table.take(0)
    finished = False
    while not finished:
        before = size
        try:
            while size - before < _BATCH_BYTES and (block := next(blocks, None)) is not None:
                workspace.inflated.take(size + len(block), size).data[size : size + len(block)] = block
                size += len(block)
        except DamagedBlockError as error:
            raise FedcallError(f"{where}: {error}; the file or its index is damaged, make them again") from None
        finished = size == before
        buffer = workspace.inflated.take(size, size)[:size]
        if in_header:
            behind = kernels.skip_header(buffer)
            if behind < 0:
                if finished:
                    raise FedcallError(f"{where}: damaged BAM header; make the file again")
                continue
            in_header = False
        first = behind
        table = workspace.table.take(rows + (size - behind) // _SHORTEST_RECORD + 1, rows)
        rows, more, odd, behind, stopped, fault = kernels.index_records(
            buffer, behind, contig, start, end, DROPPED_FLAGS, MIN_MAPPING_QUALITY, table, rows
        )
        _refuse(fault, where)
        indels += more
        unusual += odd
        other = how == _PLACED and stopped and behind == first == 0
        if other and int.from_bytes(buffer[4:8], "little") != contig:
            raise FedcallError(f"{where}: the index leads to another contig; make it again with: samtools index")
        finished |= stopped
        if finished and not stopped and behind < size:
            _refuse(kernels.TRUNCATED, where)
    return _paired(workspace, size, table[:rows], indels, unusual)


def _paired(workspace: Workspace, size: int, table: np.ndarray, indels: int, unusual: int = 0) -> Records:
    buffer = workspace.inflated.take(size, size)[:size]
    return Records(buffer, table, _pair(buffer, table), indels, np.zeros(len(table), bool), workspace.inflated, unusual)


def _pair(buffer: np.ndarray, table: np.ndarray) -> np.ndarray:
    if len(table) == 0:  # as on most of a thousand contigs
        return np.empty(0, np.int64)
    rows, hashes = np.empty(len(table), np.int64), np.empty(len(table), np.uint64)
    count = kernels.may_overlap(buffer, table, _LONGEST_PAIRED_SPAN, rows, hashes)
    mates = np.full(len(table), -1, np.int64)
    order = np.argsort(hashes[:count], kind="stable")
    kernels.pair_mates(buffer, table, rows, hashes, order, mates)
    return mates


def _view(source: _Source, regions: Sequence[str], where: str, more: Sequence[str] = ()) -> mmap.mmap:
    """Return the usable reads of regions (samtools' notation), or as further options choose, as uncompressed BAM."""
    with _anonymous_file() as handle:
        options = [
            "--uncompressed",
            "--no-PG",
            "--excl-flags",
            hex(DROPPED_FLAGS),
            "--min-MQ",
            str(MIN_MAPPING_QUALITY),
            *(("--subsample", str(source.keep), "--subsample-seed", "1") if source.keep < 1 else ()),
            *more,
        ]
        try:
            pysam.view(
                *options,
                *("--reference", htslib_name(source.reference)),
                *("-o", f"/proc/self/fd/{handle.fileno()}"),
                htslib_name(source.alignments),
                *regions,
                catch_stdout=False,
            )
        except pysam.SamtoolsError as error:
            refuse_other_reference(source.alignments, source.reference)
            reason = str(error).strip().splitlines()
            raise FedcallError(f"{where}: samtools cannot read it: {reason[-1] if reason else 'no reason'}") from None
        size = os.fstat(handle.fileno()).st_size
        if size == 0:
            raise FedcallError(f"{where}: samtools wrote nothing; check the file with `samtools quickcheck`")
        return mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)


def _anonymous_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fedcall-reads"), "w+b")
    return tempfile.TemporaryFile()


def _refuse(error: int, where: str) -> None:
    if error != kernels.OK:
        raise FedcallError(f"{where}: {kernels.ERRORS[error]}; the file is damaged, make it again")
