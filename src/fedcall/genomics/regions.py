"""Regions of the genome: read from BED, merged, widened."""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import decode_text
from fedcall.genomics.reference import reference_contigs, some_of

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The end of every whole bgzipped file (SAM specification, section 4.1.2)."""
_NUMBER = re.compile(r" *-?[0-9]{1,18} *")


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
    for number, (contig, start, end) in _numbered(bed):
        if contig not in lengths:
            raise FedcallError(
                f"{bed}:{number}: contig '{contig}' is not in {reference} (which has {some_of(lengths)})"
            )
        if not 0 <= start <= end <= lengths[contig]:
            raise FedcallError(
                f"{bed}:{number}: {contig}:{start}-{end} is not a region of a contig of {lengths[contig]} bases"
                " (needed: 0 <= start <= end <= length)"
            )
        if start < end:  # a point between two bases holds none
            by_contig[contig].append((start, end))
    regions = [(contig, start, end) for contig, spans in by_contig.items() for start, end in merge_spans(spans)]
    if not regions:
        raise FedcallError(f"{bed}: no regions")
    return regions


def read_bed(bed: Path) -> list[tuple[str, int, int]]:
    """Return the lines of a BED file as they stand there, whatever the reference."""
    return [region for _, region in _numbered(Path(bed))]


def merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return half-open spans of one contig sorted, with overlapping and touching ones joined.

    Examples
    --------
    >>> merge_spans([(5, 9), (0, 3), (3, 4)])
    [(0, 4), (5, 9)]
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def subtract_spans(spans: Iterable[tuple[int, int]], without: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what half-open spans of one contig cover and others do not, merged.

    Examples
    --------
    >>> subtract_spans([(0, 10)], [(2, 4), (9, 12)])
    [(0, 2), (4, 9)]
    """
    left: list[tuple[int, int]] = []
    gaps = merge_spans(without)
    at = 0
    for start, end in merge_spans(spans):
        while at < len(gaps) and gaps[at][1] <= start:
            at += 1
        behind = at
        while behind < len(gaps) and gaps[behind][0] < end:
            if start < gaps[behind][0]:
                left.append((start, gaps[behind][0]))
            start = max(start, gaps[behind][1])
            behind += 1
        if start < end:
            left.append((start, end))
    return left


def widen_regions(
    regions: Iterable[tuple[str, int, int]], margin: int, lengths: Mapping[str, int]
) -> list[tuple[str, int, int]]:
    """Return regions with `margin` bases more on both sides, kept within their contigs and merged again."""
    by_contig: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in regions:
        by_contig.setdefault(contig, []).append((max(0, start - margin), min(lengths[contig], end + margin)))
    return [(contig, start, end) for contig, spans in by_contig.items() for start, end in merge_spans(spans)]


def _numbered(bed: Path) -> Iterator[tuple[int, tuple[str, int, int]]]:
    for number, line in enumerate(_lines(bed), start=1):
        region = _region(bed, number, line)
        if region is not None:
            yield number, region


def _lines(bed: Path) -> list[str]:
    if not bed.is_file():
        raise FedcallError(f"{bed}: no such BED file")
    try:
        content = bed.read_bytes()
        if content[:2] == b"\x1f\x8b":
            if content[12:14] == b"BC" and not content.endswith(EOF_BLOCK):
                raise FedcallError(f"{bed}: truncated, the end-of-file block is missing; copy or make the file again")
            content = gzip.decompress(content)
    except EOFError:
        raise FedcallError(f"{bed}: breaks off in the middle; copy or make the file again") from None
    except (OSError, zlib.error) as error:
        raise FedcallError(f"{bed}: not a BED file, plain or gzipped ({error})") from None
    return decode_text(bed, content, lenient=True).split("\n")


def _region(bed: Path, number: int, line: str) -> tuple[str, int, int] | None:
    """Return contig, start and end of a line; None for an empty one, a comment, or a browser's settings."""
    # A tab ends a field; where there are none, as some write BED by hand, blanks do.
    for fields in (line.split("\t"), line.split()):
        if len(fields) > 2 and fields[0].strip() and _NUMBER.fullmatch(fields[1]) and _NUMBER.fullmatch(fields[2]):
            # Only now: a contig may be called 'track1'. One that begins with '#' cannot be told from a comment.
            if fields[0].startswith("#"):
                return None
            return fields[0].strip(), int(fields[1]), int(fields[2])
    words = line.split()
    if not words or line.startswith("#") or words[0] in ("track", "browser"):
        return None
    raise FedcallError(f"{bed}:{number}: found '{line.strip()[:60]}'; needed: contig, start, end, tab-separated")
