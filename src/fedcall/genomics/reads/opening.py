"""Open alignments, after checking that they belong to the reference."""

import gzip
import os
import re
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
from fedcall.genomics import pysam_settings  # noqa: F401
from fedcall.genomics.index_files import alignment_index, alignment_indexes, htslib_name
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.genomics.regions import EOF_BLOCK
from fedcall.genomics.trial import crashes
from fedcall.shown import shown

_GROUP = re.compile(r"^@RG\t(.*)$", re.MULTILINE)
# Of CRAM 2.1 and of 3.0 and 3.1 (specification, section 9).
_CRAM_ENDS = (
    bytes.fromhex("0b000000ffffffff0fe0454f460000000001000001000606010001000100"),
    bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b"),
)
_LONGEST_END = 64
INDEX_SUFFIXES = (".bai", ".csi", ".crai")


def check_alignments(path: Path, reference: Path, contigs: Iterable[str] | None = None) -> None:
    """Refuse alignments that cannot be read at random or do not belong to the reference.

    Parameters
    ----------
    path : Path
        BAM or CRAM, sorted by coordinate and indexed.
    reference : Path
        FASTA, plain or bgzipped, with its `.fai`.
    contigs : iterable of str, optional
        Contigs that will be used: each must stand in both files with one length. Without it, the contigs that
        stand in both files are meant, and there must be one. Others do not matter, because nobody reads them.

    Raises
    ------
    FedcallError
        One line naming the file, the contig where there is one, and what to do.
    """
    with open_alignments(path, reference) as alignments:
        if not alignments.has_index():
            raise FedcallError(_no_index(Path(path), alignments))
        shared_contigs(path, header_contigs(alignments), reference, contigs)


def open_alignments(path: Path, reference: Path, *, text: bool = False) -> pysam.AlignmentFile:
    """Open BAM or CRAM of one person for reading; truncated and unreadable files are refused.

    An index is held against the file before htslib sees it: a damaged one may overwrite htslib's memory, and one of
    another file leaves out reads. The caller closes the file. Whether there is an index, and which contigs there are,
    is left to `check_alignments`.

    Parameters
    ----------
    text : take SAM, too, which cannot be read at random, and what has an index that is none

    Raises
    ------
    FedcallError
        If the file cannot be read, if its index is not its own, or if its read groups name several people: a person is
        what privacy protects, and a genotype is one person's.
    """
    path = Path(path)
    reference_contigs(reference)
    if not path.is_file():
        raise FedcallError(f"{path}: no such alignment file")
    _refuse_cut(path)
    index = alignment_index(path)
    stamps = tuple(file_stamp(file) for file in (path, index) if file is not None)
    _refuse_crash(path, Path(reference), index, stamps)
    _refuse_unfaithful_indexes(path, is_needed=not text)
    try:
        alignments = _open(path, Path(reference))
    except (OSError, ValueError) as error:
        # What the system says may repeat the file's name, which may hold any word.
        said = getattr(error, "strerror", None) or str(error).replace(htslib_name(path), "the file")
        raise FedcallError(f"{path}: not a readable BAM or CRAM file ({' '.join(said.split())})") from None
    if not (alignments.is_bam or alignments.is_cram or text):
        alignments.close()
        raise FedcallError(f"{path}: neither BAM nor CRAM; convert it with: fedcall normalise-alignments")
    names = samples_of(alignments)
    if len(names) > 1:
        alignments.close()
        listed = ", ".join(shown(name, NAME_CHARACTERS) for name in names[:4])
        raise FedcallError(
            f"{path}: reads of several samples ({listed}); one patient a file: take the reads of one with"
            f" samtools view -r GROUP (and samtools reheader), or split the file with samtools split"
        )
    return alignments


def _refuse_cut(path: Path) -> None:
    """Refuse a BAM or CRAM that ends without the mark that a whole one ends with; CRAM 2.0 and gzip have none."""
    with open(path, "rb") as handle:
        start = handle.read(18)
        is_cram = start[:4] == b"CRAM" and start[4:6] >= b"\x02\x01"
        if not is_cram and (start[:2] != b"\x1f\x8b" or start[12:14] != b"BC"):
            return
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(0, size - _LONGEST_END))
        behind = handle.read()
    if is_cram and len(behind) >= _LONGEST_END:
        # Four bits of the ninth byte may be anything, as for htslib.
        own = [(behind[-len(end) :], end) for end in _CRAM_ENDS]
        whole = any(found[:8] + bytes([found[8] & 0x0F]) + found[9:] == end for found, end in own)
    else:
        whole = not is_cram and behind.endswith(EOF_BLOCK)
    if not whole:
        raise FedcallError(
            f"{path}: truncated, the end-of-file block is missing: copy or make the file again; a whole file of a"
            f" program that writes none is mended by: samtools view -b -o NEW {path}"
        )


def _open(path: Path, reference: Path) -> pysam.AlignmentFile:
    return pysam.AlignmentFile(htslib_name(path), reference_filename=htslib_name(reference))


@lru_cache(maxsize=256)
def _refuse_crash(path: Path, reference: Path, index: Path | None, stamps: tuple[tuple[int, int], ...]) -> None:
    """Refuse a file at which htslib crashes, as it does at some damaged indexes."""
    if crashes(lambda: _open(path, reference).has_index()):
        whose = f"or its index {index.name}" if index is not None else "or its header"
        raise FedcallError(
            f"{path}: the file {whose} is damaged, and htslib crashes; make the index again with: samtools index {path}"
        )


def samples_of(alignments: pysam.AlignmentFile) -> list[str]:
    """Return the samples that the read groups name, sorted; none where there are no read groups."""
    groups = _GROUP.findall(str(alignments.header))  # not `to_dict`: it takes its time where there are many contigs
    fields = (field for group in groups for field in group.split("\t"))
    return sorted({field[3:] for field in fields if field.startswith("SM:") and len(field) > 3})


def is_sorted(alignments: pysam.AlignmentFile) -> bool:
    """Say whether reads come in the order of their coordinates: the header says so, or an index proves it."""
    ordered: bool = alignments.has_index() or alignments.header.to_dict().get("HD", {}).get("SO") == "coordinate"
    return ordered


def header_contigs(alignments: pysam.AlignmentFile) -> dict[str, int]:
    """Return the contigs of the header with their lengths in bases, in the header's order."""
    return dict(zip(alignments.references, alignments.lengths, strict=True))


def _refuse_unfaithful_indexes(path: Path, is_needed: bool) -> None:
    """Refuse an index that would leave out reads of the file as it is: nobody would miss them."""
    indexes = alignment_indexes(path)
    if not indexes or _is_text(path):
        return
    # They bring numpy, which few commands need.
    from fedcall.genomics.binning_index import NO_INDEX, UnfaithfulIndexError, check_index
    from fedcall.genomics.reads.cram_index import check_crai

    for index in indexes:
        kind = "-c " if index.suffix == ".csi" else ""
        remedy = f"make it again with: samtools index {kind}{path} {index}"
        try:
            if index.suffix == ".crai":
                check_crai(index, path)
            else:
                check_index(index, path, "bam")
        except UnfaithfulIndexError as error:
            if str(error) == NO_INDEX and not is_needed:
                continue
            remedy += ", or remove it" if len(indexes) > 1 else ""
            raise FedcallError(f"{index}: the index {error}; {remedy}") from None


def _is_text(path: Path) -> bool:
    """Say whether a file is SAM, compressed or not, or damaged from the start: htslib tells what is wrong then."""
    with open(path, "rb") as handle:
        if handle.read(4) == b"CRAM":
            return False
    try:
        with gzip.open(path, "rb") as inflated:
            return inflated.read(4) != b"BAM\1"
    except (OSError, EOFError, zlib.error):
        return True


def _no_index(path: Path, alignments: pysam.AlignmentFile) -> str:
    for suffix in INDEX_SUFFIXES:
        for file in (Path(f"{path}{suffix}"), path.with_suffix(suffix)):
            if file.is_file():
                return f"{path}: index {file.name} cannot be read; make it again with: samtools index {path}"
    if not is_sorted(alignments):
        return f"{path}: no index, and not known to be sorted by coordinate; sort it with: fedcall normalise-alignments"
    return f"{path}: index is missing; make it with: samtools index {path}"
