"""Pairs of several lanes that share their names: told apart while mates are looked up, and named again as they were.

samtools fixmate takes all reads of one name for one pair. Where lanes that number their reads alike were merged, it
would mate a read with a read of another fragment. Mates know each other's places, so the pairs can be told apart.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import pysam

_MARK = "#fedcall-pair-"
_MARKED = re.compile(f"{_MARK}[0-9]+$")
_LONGEST_NAME = 254 - len(_MARK) - 6
_LOOKED_AT = 50_000
"""Reads at the start of a collated file: of a random share of the names, all reads."""
_FIRST, _SECOND, _NOT_PRIMARY = 0x40, 0x80, 0x900


def share_names(collated: Path) -> bool:
    """Say whether reads of several pairs bear one name; reads of one name stand together in the file."""
    with pysam.AlignmentFile(str(collated), check_sq=False) as reads:
        first = islice(reads.fetch(until_eof=True), _LOOKED_AT)
        return any(_are_several(list(group)) for _, group in groupby(first, key=lambda read: read.query_name))


def name_apart(collated: Path, output: Path) -> None:
    """Write the reads with a number behind the names of pairs that share one."""
    with (
        pysam.AlignmentFile(str(collated), check_sq=False) as reads,
        pysam.AlignmentFile(str(output), "wbu", template=reads) as target,
    ):
        for name, group in groupby(reads.fetch(until_eof=True), key=lambda read: read.query_name):
            own = list(group)
            if _are_several(own) and len(name or "") <= _LONGEST_NAME:
                own = list(_numbered(own))
            for read in own:
                target.write(read)


def name_again(source: Path, output: Path) -> None:
    """Write the reads with the names they had, in the same order."""
    with (
        pysam.AlignmentFile(str(source), check_sq=False) as reads,
        pysam.AlignmentFile(str(output), "wb", template=reads) as target,
    ):
        for read in reads.fetch(until_eof=True):
            read.query_name = _MARKED.sub("", read.query_name or "*")
            target.write(read)


def _are_several(group: Sequence[pysam.AlignedSegment]) -> bool:
    primary = [read.flag for read in group if not read.flag & _NOT_PRIMARY]
    return any(sum(1 for flag in primary if flag & side) > 1 for side in (_FIRST, _SECOND))


def _numbered(group: Sequence[pysam.AlignedSegment]) -> Iterator[pysam.AlignedSegment]:
    """Yield the reads of one name pair by pair; further alignments go with the read whose mate they name."""
    waiting = [read for read in group if not read.flag & _NOT_PRIMARY]
    others = [read for read in group if read.flag & _NOT_PRIMARY]
    number = 0
    while waiting:
        number += 1
        pair = [waiting.pop(0)]
        mate = next((place for place, read in enumerate(waiting) if _are_mates(pair[0], read)), None)
        if mate is not None:
            pair.append(waiting.pop(mate))
        own = [read for read in others if any(_is_of(read, one) for one in pair) or not waiting]
        others = [read for read in others if not any(read is one for one in own)]
        for read in (*pair, *own):
            read.query_name = f"{read.query_name}{_MARK}{number}"
            yield read


def _are_mates(one: pysam.AlignedSegment, other: pysam.AlignedSegment) -> bool:
    sides = (one.flag ^ other.flag) & (_FIRST | _SECOND)
    return sides != 0 and _place(one) == _mates_place(other) and _place(other) == _mates_place(one)


def _is_of(read: pysam.AlignedSegment, primary: pysam.AlignedSegment) -> bool:
    """Whether a further alignment is of the same read, as far as its mate's place tells."""
    same_side = (read.flag ^ primary.flag) & (_FIRST | _SECOND) == 0
    return same_side and _mates_place(read) == _mates_place(primary)


def _place(read: pysam.AlignedSegment) -> tuple[int, int]:
    return read.reference_id, read.reference_start


def _mates_place(read: pysam.AlignedSegment) -> tuple[int, int]:
    return read.next_reference_id, read.next_reference_start
