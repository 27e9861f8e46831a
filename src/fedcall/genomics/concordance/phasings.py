"""Whether two sets of unphased changes can be laid on two haplotypes each so that both spell the same two sequences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fedcall.genomics.vcf.left_alignment import Edit

_MOST_STATES = 2_000
"""Beyond this many open phasings (of more than ten changes that never meet again), the answer is no."""

Change = tuple[Edit, int, int]
"""What changes, on which of the two sides (0 or 1), and on how many haplotypes (1 or 2)."""


def can_spell_the_same(changes: Sequence[Change], sequence: str, start: int) -> bool:
    """Say whether both sides' changes have phasings that spell the same pair of sequences.

    Parameters
    ----------
    changes : sorted by place, of both sides
    sequence, start : reference around them, and the 0-based position of its first base

    Notes
    -----
    Haplotypes grow from left to right on both sides at once, and a phasing is given up at the first base that differs;
    phasings that come to the same point are one. So the search of Cleary et al. 2015 (vcfeval, section 2.2).
    """
    states = {(_BEGIN, _BEGIN)}
    for edit, side, copies in changes:
        begin, end = edit.start - start, edit.end - start
        grown: set[tuple[_Haplotype, _Haplotype]] = set()
        for pair in states:
            near = [_spelled_up_to(haplotype, begin, sequence) for haplotype in pair]
            if near[0] is None or near[1] is None:
                continue
            first, second = (_changed(one, side, begin, end, edit.bases) for one in near if one is not None)
            if copies == 2:
                grown |= _in_order([(first, second)])
            else:
                grown |= _in_order([(first, near[1]), (near[0], second)])
        if not grown or len(grown) > _MOST_STATES:
            return False
        states = grown
    last = len(sequence)
    whole = ([_spelled_up_to(haplotype, last, sequence) for haplotype in pair] for pair in states)
    return any(all(one is not None and not one.ahead for one in pair) for pair in whole)


@dataclass(frozen=True, order=True)
class _Haplotype:
    """A haplotype that both sides have spelled equally so far.

    Attributes
    ----------
    reached : per side, up to where in the reference it has been spelled
    ahead : bases that one side has spelled and the other not yet
    leading : the side that is ahead
    inserted : per side, where it put bases in last without taking any; there it cannot again
    """

    reached: tuple[int, int] = (0, 0)
    ahead: str = ""
    leading: int = 0
    inserted: tuple[int, int] = (-1, -1)


_BEGIN = _Haplotype()


def _spelled_up_to(haplotype: _Haplotype, end: int, sequence: str) -> _Haplotype | None:
    """Spell the reference on both sides up to a place; None where they differ."""
    grown: _Haplotype | None = haplotype
    for side in (0, 1):
        if grown is not None and grown.reached[side] < end:
            grown = _added(grown, side, sequence[grown.reached[side] : end], end)
    return grown


def _changed(haplotype: _Haplotype, side: int, begin: int, end: int, bases: str) -> _Haplotype | None:
    """Lay a change on a haplotype; None where its bases are changed already, or the sides differ."""
    if haplotype.reached[side] > begin or (begin == end == haplotype.inserted[side]):
        return None
    grown = _added(haplotype, side, bases, end)
    if grown is None or begin != end:
        return grown
    return replace(grown, inserted=(end, grown.inserted[1]) if side == 0 else (grown.inserted[0], end))


def _added(haplotype: _Haplotype, side: int, bases: str, reached: int) -> _Haplotype | None:
    places = (reached, haplotype.reached[1]) if side == 0 else (haplotype.reached[0], reached)
    if side == haplotype.leading or not haplotype.ahead:
        return replace(haplotype, reached=places, ahead=haplotype.ahead + bases, leading=side)
    common = min(len(bases), len(haplotype.ahead))
    if bases[:common] != haplotype.ahead[:common]:
        return None
    if len(bases) > common:
        return replace(haplotype, reached=places, ahead=bases[common:], leading=side)
    return replace(haplotype, reached=places, ahead=haplotype.ahead[common:])


def _in_order(pairs: Iterable[tuple[_Haplotype | None, _Haplotype | None]]) -> set[tuple[_Haplotype, _Haplotype]]:
    """Return the pairs that exist; which haplotype is which does not matter."""
    found = set()
    for one, other in pairs:
        if one is not None and other is not None:
            found.add((one, other) if one <= other else (other, one))
    return found
