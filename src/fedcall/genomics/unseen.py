"""Regions that training leaves out, so that models can be compared where no model was trained."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.genomics.reference import reference_contigs, some_of
from fedcall.genomics.regions import merge_spans, read_bed, read_regions, widen_regions

Span = tuple[str, int, int]

MARGIN = 100
"""Bases on both sides of an unseen region that training leaves out, too: a candidate's window reaches 16 bases far,
the haplotypes its reads are aligned to somewhat further."""


def training_regions(regions: Path | None, reference: Path, unseen: Sequence[str]) -> list[Span]:
    """Return a patient's regions without those nobody may train on, widened by `MARGIN`.

    Parameters
    ----------
    regions : Path or None
        BED of the patient; None: the whole reference.
    reference : Path
        Indexed FASTA.
    unseen : sequence of str
        CONTIG or CONTIG:FIRST-LAST.

    Raises
    ------
    FedcallError
        If a region is not one of the reference, or nothing is left to train on.
    """
    lengths = reference_contigs(reference)
    whole = [(name, 0, length) for name, length in lengths.items()]
    own = whole if regions is None else read_regions(regions, reference)
    left = subtract(own, widen_regions(parse_regions(unseen, reference), MARGIN, lengths))
    if not left:
        raise FedcallError(
            f"{regions or reference}: nothing is left to train on beside evaluation.regions {', '.join(unseen)};"
            " agree on smaller ones"
        )
    return left


def unseen_regions(regions: Path, reference: Path, agreed: Sequence[str], trained: Sequence[Path] | None) -> list[Span]:
    """Return the part of a held-out person's regions that no model was trained on; nothing, if that is not known.

    Parameters
    ----------
    regions : Path
        BED of the person.
    agreed : sequence of str
        Regions that no site trains on; where there are any, they alone count.
    trained : sequence of Path, or None
        BED files of everybody who was trained on; None: not known, or everywhere.
    """
    own = read_regions(regions, reference)
    if agreed:
        return intersect(own, parse_regions(agreed, reference))
    if trained is None:
        return []
    lengths = reference_contigs(reference)
    return subtract(own, widen_regions(_named_as(lengths, trained), MARGIN, lengths))


def parse_regions(texts: Iterable[str], reference: Path) -> list[Span]:
    """Return regions in samtools' notation, CONTIG or CONTIG:FIRST-LAST, as 0-based half-open spans.

    Hospitals may name contigs differently: 20 is chr20 where the reference has no 20, and the other way round.

    Raises
    ------
    FedcallError
        If a contig is not in the reference, or the region not within it.
    """
    lengths = reference_contigs(reference)
    spans = []
    for text in texts:
        found = re.fullmatch(r"(.+):([0-9]+)-([0-9]+)", text)
        contig = _name_in(lengths, text) or (found and _name_in(lengths, found[1]))
        if contig is None:
            raise FedcallError(f"evaluation.regions: '{text}' is not in {reference} (which has {some_of(lengths)})")
        start, end = (int(found[2]) - 1, int(found[3])) if found else (0, lengths[contig])
        if not 0 <= start < end <= lengths[contig]:
            raise FedcallError(
                f"evaluation.regions: '{text}' is not within the {lengths[contig]} bases of its contig in {reference}"
            )
        spans.append((contig, start, end))
    return spans


def write_bed(path: Path, spans: Iterable[Span]) -> int:
    """Write spans as BED, atomically; return the number of their bases."""
    spans = list(spans)
    write_text(path, "".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in spans))
    return sum(end - start for _, start, end in spans)


def subtract(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return what of half-open spans lies in none of the others, in the order of the spans.

    >>> subtract([("1", 0, 100)], [("1", 10, 20), ("1", 90, 200), ("2", 0, 50)])
    [('1', 0, 10), ('1', 20, 90)]
    """
    cut = _by_contig(others)
    left = []
    for contig, start, end in spans:
        for first, last in _touching(cut.get(contig, []), start, end):
            if first > start:
                left.append((contig, start, first))
            start = last
        if start < end:
            left.append((contig, start, end))
    return left


def intersect(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return what of half-open spans lies in one of the others, merged, in the order of the spans.

    >>> intersect([("1", 0, 100), ("2", 0, 9)], [("1", 90, 200), ("1", 10, 20)])
    [('1', 10, 20), ('1', 90, 100)]
    """
    kept = _by_contig(others)
    return [
        (contig, max(start, first), min(end, last))
        for contig, start, end in spans
        for first, last in _touching(kept.get(contig, []), start, end)
    ]


def _name_in(lengths: Mapping[str, int], contig: str) -> str | None:
    names = (contig, f"chr{contig}", contig.removeprefix("chr"))
    return next((name for name in names if name in lengths), None)


def _named_as(lengths: Mapping[str, int], beds: Iterable[Path]) -> Iterator[Span]:
    """Yield regions of people with maybe another reference, those on contigs that this one has."""
    for bed in beds:
        for contig, start, end in read_bed(bed):
            name = _name_in(lengths, contig)
            if name is not None:
                yield name, start, end


def _by_contig(spans: Iterable[Span]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in spans:
        found.setdefault(contig, []).append((start, end))
    return {contig: merge_spans(own) for contig, own in found.items()}


def _touching(merged: Sequence[tuple[int, int]], start: int, end: int) -> Sequence[tuple[int, int]]:
    """Return those of merged spans of one contig that share a base with [start, end)."""
    first = bisect_right(merged, start, key=lambda span: span[1])
    return merged[first : bisect_left(merged, end, key=lambda span: span[0])]
