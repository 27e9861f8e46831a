"""Open alignments, references and regions, after checking that they belong together."""

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.index_files import reference_indexes

# htslib writes its own lines to stderr; ours are the only ones a person should have to read.
pysam.set_verbosity(0)

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


def open_alignments(path: Path, reference: Path) -> pysam.AlignmentFile:
    """Open BAM or CRAM for reading; SAM, truncated and unreadable files are refused.

    The caller closes it. Whether there is an index, and which contigs there are, is left to `check_alignments`.
    """
    path = Path(path)
    reference_contigs(reference)
    if not path.is_file():
        raise FedcallError(f"{path}: no such alignment file")
    try:
        alignments = pysam.AlignmentFile(str(path), reference_filename=str(reference))
    except (OSError, ValueError) as error:
        if "truncated" in str(error) or "EOF" in str(error):
            raise FedcallError(
                f"{path}: truncated, the end-of-file block is missing; copy or make the file again"
            ) from None
        raise FedcallError(f"{path}: not a readable BAM or CRAM file ({error})") from None
    if not (alignments.is_bam or alignments.is_cram):
        alignments.close()
        raise FedcallError(f"{path}: neither BAM nor CRAM; convert it, for example: samtools sort --write-index")
    return alignments


def is_sorted(alignments: pysam.AlignmentFile) -> bool:
    """Say whether reads come in the order of their coordinates: the header says so, or an index proves it."""
    return alignments.has_index() or alignments.header.to_dict().get("HD", {}).get("SO") == "coordinate"


def header_contigs(alignments: pysam.AlignmentFile) -> dict[str, int]:
    """Return the contigs of the header with their lengths in bases, in the header's order."""
    return dict(zip(alignments.references, alignments.lengths, strict=True))


def reference_contigs(reference: Path) -> dict[str, int]:
    """Return the contigs of an indexed FASTA with their lengths in bases, in the file's order.

    Raises
    ------
    FedcallError
        If the file or one of its indexes (`.fai`; `.gzi` of a bgzipped file) is missing or not readable.
    """
    reference = Path(reference)
    if not reference.is_file():
        raise FedcallError(f"{reference}: no such reference")
    needed = reference_indexes(reference)
    index = needed[0]
    for file in needed:
        if not file.is_file():
            raise FedcallError(f"{reference}: index {file.name} is missing; make it with: samtools faidx {reference}")
    try:
        rows = [line.split("\t") for line in index.read_text().splitlines() if line]
        contigs = {name: int(length) for name, length, *_ in rows}
    except (ValueError, UnicodeDecodeError):
        raise FedcallError(f"{index}: not a FASTA index; make it again with: samtools faidx {reference}") from None
    if not contigs:
        raise FedcallError(f"{index}: the index names no contig; make it again with: samtools faidx {reference}")
    return contigs


def open_reference(reference: Path) -> pysam.FastaFile:
    """Open an indexed FASTA, plain or bgzipped; the caller closes it."""
    reference_contigs(reference)
    try:
        return pysam.FastaFile(str(reference))
    except (OSError, ValueError) as error:
        raise FedcallError(
            f"{reference}: not a readable FASTA ({error}); plain or bgzipped (not gzipped) is needed"
        ) from None


def shared_contigs(
    path: Path, contigs: Mapping[str, int | None], reference: Path, wanted: Iterable[str] | None = None
) -> list[str]:
    """Return the contigs that `path` and the reference share, in the reference's order, after comparing lengths.

    Parameters
    ----------
    path : Path
        File the contigs were read from, for messages.
    contigs : mapping of str to int or None
        Its contigs with their lengths in bases, None where the file does not say.
    reference : Path
        Indexed FASTA.
    wanted : iterable of str, optional
        Only these matter, and each must be there.

    Raises
    ------
    FedcallError
        If a wanted contig is missing on one side, a length differs, or nothing is shared.
    """
    path = Path(path)
    known = reference_contigs(reference)
    if wanted is None:
        names = [name for name in known if name in contigs]
        if not names:
            raise FedcallError(
                f"{path}: no contig in common with {reference} (found {_some(contigs)}; reference has {_some(known)})"
            )
    else:
        chosen = set(wanted)
        for name in sorted(chosen):
            if name not in known:
                raise FedcallError(f"{reference}: no contig '{name}' (found {_some(known)})")
            if name not in contigs:
                raise FedcallError(
                    f"{path}: no contig '{name}' (found {_some(contigs)}); use the reference it was aligned to"
                )
        names = [name for name in known if name in chosen]
    for name in names:
        length = contigs[name]
        if length is not None and length != known[name]:
            raise FedcallError(
                f"{path}: contig '{name}' has {length} bases, but {known[name]} in {reference};"
                " use the reference it was aligned to"
            )
    return names


def read_regions(bed: Path, reference: Path) -> list[tuple[str, int, int]]:
    """Return the regions of a BED file, merged, in the order of the reference.

    Parameters
    ----------
    bed : Path
        BED, plain or gzipped: contig, start (0-based), end (exclusive); further columns are not read.
    reference : Path
        Indexed FASTA that names the contigs and their lengths.

    Returns
    -------
    list of (contig, start, end)
        0-based, half-open; neither overlapping nor touching.

    Raises
    ------
    FedcallError
        Naming file, line and contig, if a line is not a region of the reference, or there is none.
    """
    bed = Path(bed)
    lengths = reference_contigs(reference)
    by_contig: dict[str, list[tuple[int, int]]] = {name: [] for name in lengths}
    for number, line in enumerate(_lines(bed), start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        contig, start, end = _region(bed, number, line)
        if contig not in lengths:
            raise FedcallError(f"{bed}:{number}: contig '{contig}' is not in {reference} (which has {_some(lengths)})")
        if not 0 <= start < end <= lengths[contig]:
            raise FedcallError(
                f"{bed}:{number}: {contig}:{start}-{end} is not a region of a contig of {lengths[contig]} bases"
                " (needed: 0 <= start < end <= length)"
            )
        by_contig[contig].append((start, end))
    regions = [(contig, start, end) for contig, spans in by_contig.items() for start, end in merge_spans(spans)]
    if not regions:
        raise FedcallError(f"{bed}: no regions")
    return regions


def merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return half-open spans of one contig sorted, with overlapping and touching ones joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def widen_regions(
    regions: Iterable[tuple[str, int, int]], margin: int, lengths: Mapping[str, int]
) -> list[tuple[str, int, int]]:
    """Return regions with `margin` bases more on both sides, kept within their contigs and merged again."""
    by_contig: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in regions:
        by_contig.setdefault(contig, []).append((max(0, start - margin), min(lengths[contig], end + margin)))
    return [(contig, start, end) for contig, spans in by_contig.items() for start, end in merge_spans(spans)]


def _lines(bed: Path) -> list[str]:
    if not bed.is_file():
        raise FedcallError(f"{bed}: no such BED file")
    try:
        content = bed.read_bytes()
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError):
        raise FedcallError(f"{bed}: not a BED file (text, plain or gzipped)") from None


def _region(bed: Path, number: int, line: str) -> tuple[str, int, int]:
    fields = line.split("\t") if "\t" in line else line.split()
    try:
        return fields[0], int(fields[1]), int(fields[2])
    except (IndexError, ValueError):
        raise FedcallError(
            f"{bed}:{number}: found '{line.strip()[:60]}'; needed: contig, start, end, tab-separated"
        ) from None


def _no_index(path: Path, alignments: pysam.AlignmentFile) -> str:
    for suffix in INDEX_SUFFIXES:
        for file in (Path(f"{path}{suffix}"), path.with_suffix(suffix)):
            if file.is_file():
                return f"{path}: index {file.name} cannot be read; make it again with: samtools index {path}"
    if not is_sorted(alignments):
        return f"{path}: no index, and not known to be sorted by coordinate; sort it with: fedcall normalise-alignments"
    return f"{path}: index is missing; make it with: samtools index {path}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "") if listed else "none"
