"""Homopolymers read one base too short or too long, as machines do that read a whole run of equal bases at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pysam

RUN_ERROR, SHORTEST_RUN, LARGEST_ERROR = 0.01, 4, 0.3
"""Share of reads with a wrong length of the shortest run that is read wrongly at all; it doubles with each further
base, up to the largest. Made up, of the order that flow-based machines show (Bragg et al. 2013)."""
DELETED_SHARE = 0.6
FROM_BLOCK_END = 8
"""Bases of aligned sequence on both sides of an error, below which an aligner would rather clip."""

_ALIGNED, _ADVANCING_READ = (0, 7, 8), (1, 4)
_INSERTION, _DELETION = 1, 2


def wrong_runs(read: pysam.AlignedSegment, chance: np.random.Generator) -> None:
    """Change the lengths of runs of a read, in place, and write each as a gap at the leftmost place."""
    bases, qualities, cigar = read.query_sequence, read.query_qualities, read.cigartuples
    if bases is None or qualities is None or cigar is None:
        return
    made, at = _Spelled(bases, list(qualities)), 0
    for operation, size in cigar:
        if operation in _ALIGNED:
            made.copy(operation, at, at + size, _errors(bases, at, at + size, chance))
            at += size
        else:
            made.cigar.append((operation, size))
            if operation in _ADVANCING_READ:
                made.take(at, at + size)
                at += size
    if len(made.cigar) == len(cigar):
        return
    read.query_sequence = "".join(made.shown)  # clears the qualities
    read.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + level) for level in made.levels))
    read.cigartuples = made.cigar
    for tag in ("MD", "NM"):  # no longer true
        read.set_tag(tag, None)


@dataclass
class _Spelled:
    """A read as it is written anew."""

    bases: str
    qualities: list[int]
    shown: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    cigar: list[tuple[int, int]] = field(default_factory=list)

    def take(self, first: int, last: int) -> None:
        self.shown.append(self.bases[first:last])
        self.levels += self.qualities[first:last]

    def copy(self, operation: int, first: int, last: int, errors: list[tuple[int, bool]]) -> None:
        """Copy an aligned block, with one base left out or doubled at each of the places."""
        for place, is_deleted in errors:
            self.take(first, place)
            self.cigar.append((operation, place - first))
            self.cigar.append((_DELETION if is_deleted else _INSERTION, 1))
            if not is_deleted:
                self.take(place, place + 1)
            first = place + 1 if is_deleted else place
        self.take(first, last)
        self.cigar.append((operation, last - first))


def _errors(bases: str, first: int, last: int, chance: np.random.Generator) -> list[tuple[int, bool]]:
    """Draw where an aligned block errs, and whether a base is missing there."""
    return [
        (start, bool(chance.random() < DELETED_SHARE))
        for start, length in _runs(bases, first + FROM_BLOCK_END, last - FROM_BLOCK_END)
        if chance.random() < min(LARGEST_ERROR, RUN_ERROR * 2.0 ** (length - SHORTEST_RUN))
    ]


def _runs(bases: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of runs that lie whole within [first, last) and are long enough to be read wrongly."""
    at = max(first, 1)
    while at < last:
        end = at + 1
        while end < len(bases) and bases[end] == bases[at]:
            end += 1
        if bases[at - 1] != bases[at] != "N" and end <= last and end - at >= SHORTEST_RUN:
            yield at, end - at
        at = end
