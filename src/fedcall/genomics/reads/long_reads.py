"""Refuse long reads: windows, likelihood and realignment were made for short ones, and would be quietly worse on them.

On 25 kb of HG002 sequenced by Oxford Nanopore (R10), SNP F1 was .971 against .986 of bcftools with its preset, and 21
of 23 indel calls were false.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.reads.opening import open_alignments
from fedcall.shown import shown

LONGEST_SHORT_READ = 1_000
"""Bases. Merged pairs of 2 x 300 have at most 600; reads of 454 and Sanger sequencing end about here."""
LONG_SHARE = 0.1
"""Reads count as long if more than this share of their bases lies in longer ones than that."""
_FEWEST_READS = 20  # alignments with fewer do not show by their lengths what sequenced them
_LOOKED_AT_READS, _LOOKED_AT_BASES = 2_000, 5_000_000
_PLATFORM = re.compile(r"^@RG\t(?:.*\t)?PL:([^\t\n]*)", re.MULTILINE)
_LONG_PLATFORMS = ("ONT", "PACBIO")
"""Values of PL in @RG (SAM specification v1, section 1.3) that mean long reads."""
_WAY_OUT = (
    "the models, and fedcall's likelihood, are for short reads (Illumina and alike) and would miss variants and invent"
    " indels here: leave this patient out, or call the variants with a caller made for long reads"
)


def refuse_long_reads(alignments: Path, reference: Path) -> None:
    """Refuse alignments whose read groups name a platform of long reads, or whose first reads are long.

    Parameters
    ----------
    alignments : BAM or CRAM
    reference : indexed FASTA

    Raises
    ------
    FedcallError
        One line: the file, what was found, what to do.
    """
    alignments = Path(alignments)
    stamp = file_stamp(alignments) if alignments.is_file() else None
    _refuse_alignments(alignments, Path(reference), stamp)


@lru_cache(maxsize=256)
def _refuse_alignments(alignments: Path, reference: Path, stamp: tuple[int, int] | None) -> None:
    """Look into a file once, however many shards of it one process works on."""
    lengths: list[int] = []
    # A damaged record is told by who reads all of them; htslib may also complain of it when the file is closed.
    with contextlib.suppress(OSError, ValueError), open_alignments(alignments, reference) as handle:
        named = next((p for p in _PLATFORM.findall(str(handle.header)) if p.upper() in _LONG_PLATFORMS), None)
        if named is not None:
            raise FedcallError(f"{alignments}: long reads (a read group has PL:{shown(named)}); {_WAY_OUT}")
        lengths.extend(_lengths(handle))
    if len(lengths) >= _FEWEST_READS:
        _refuse(alignments, lengths)


def refuse_long_fastq(reads: Path) -> None:
    """Refuse a FASTQ file, plain or gzipped, whose first reads are long; one that cannot be read is left to others."""
    if not reads.is_file():
        return  # htslib crashes at a folder
    try:
        with pysam.FastxFile(htslib_name(reads), persist=False) as records:
            lengths = [len(record.sequence or "") for record in itertools.islice(records, _LOOKED_AT_READS)]
    except (OSError, ValueError):
        return
    _refuse(reads, lengths)


def long_platform_line(platform: str) -> str | None:
    """Return why a platform of long reads is refused; None for any other word."""
    return f"long reads; {_WAY_OUT}" if platform.upper() in _LONG_PLATFORMS else None


def _refuse(path: Path, lengths: Sequence[int]) -> None:
    long = [length for length in lengths if length > LONGEST_SHORT_READ]
    if sum(long) > LONG_SHARE * sum(lengths):
        raise FedcallError(
            f"{path}: long reads ({len(long)} of the first {len(lengths)} have more than {LONGEST_SHORT_READ} bases,"
            f" the longest {max(long)}); {_WAY_OUT}"
        )


def _lengths(handle: pysam.AlignmentFile) -> Iterator[int]:
    """Yield lengths of the first reads, each as it was sequenced, hard-clipped bases included."""
    bases = 0
    for read in itertools.islice(handle, _LOOKED_AT_READS):
        length = read.infer_read_length() or read.query_length
        bases += length
        if not (read.is_secondary or read.is_supplementary):  # pieces of others
            yield length
        if bases > _LOOKED_AT_BASES:
            return
