"""What several statements about one allele of a person say together."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Generic, TypeVar

from fedcall.genomics.vcf.carried_allele import Carried
from fedcall.genomics.vcf.left_alignment import Edit, ReferenceBases, normal_form, trimmed

T = TypeVar("T")


class Settling(Generic[T]):
    """Settle statements about alleles that are equal once they are left-aligned.

    Parameters
    ----------
    bases : of the reference
    left_out : counts repeated statements, under "repeated"
    alleles : everything that the file says the person carries
    """

    def __init__(self, bases: ReferenceBases, left_out: Counter[str], alleles: Iterable[Carried[T]]) -> None:
        self.bases, self.left_out, self.others = bases, left_out, _Others(alleles)

    def settle(self, same: Sequence[Carried[T]], keep_apart: bool) -> list[Carried[T]]:
        """Return what several statements about one allele say together."""
        by_edit: dict[Edit, Carried[T]] = {}
        for one in same:
            known = by_edit.get(one.edit)
            by_edit[one.edit] = one if known is None else self._once(known, one)
        apart = list(by_edit.values())
        if len(apart) == 1:
            return apart
        if len(apart[0].ref) == len(apart[0].alt):
            # One base of several substitutions: no haplotype has two of them, so each has copies of its own.
            return [reduce(_together, apart)]
        first = next((one for one in apart if one.phase is not None), apart[0])
        if all(_is_placed(one, first) for one in apart) and not self.others.between(apart):
            return self._by_haplotype(apart)
        if keep_apart or self.others.between(apart):
            return self._kept_apart(apart)
        return [reduce(self._once, apart)]

    def _once(self, one: Carried[T], other: Carried[T]) -> Carried[T]:
        """Return one statement made twice: phased, a haplotype has it if either says so; else more copies win."""
        self.left_out["repeated"] += 1
        if one.phase is not None and one.phase == other.phase and len(one.copies) == len(other.copies):
            return replace(one, copies=_union(one, other))
        return one if one.count >= other.count else replace(one, copies=other.copies, phase=other.phase)

    def _by_haplotype(self, apart: Sequence[Carried[T]]) -> list[Carried[T]]:
        """Join the changes that one haplotype has; every change is known to be on its haplotypes."""
        joined: dict[tuple[int, str, str], Carried[T]] = {}
        phase = next((one.phase for one in apart if one.phase is not None), None)
        for haplotype in range(len(apart[0].copies)):
            edits: list[Edit] = []
            for one in sorted(apart, key=lambda one: one.edit):
                if one.copies[haplotype] != 1:
                    continue
                if not (edits and edits[-1].overlaps(one.edit)):
                    edits.append(one.edit)
            if edits:
                place, edit = self._joined(apart[0].contig, edits)
                start, ref, alt = place
                known = joined.get(place, replace(apart[0], start=start, ref=ref, alt=alt, phase=phase, edit=edit))
                own = known.copies if place in joined else (0,) * len(known.copies)
                joined[place] = replace(known, copies=(*own[:haplotype], 1, *own[haplotype + 1 :]))
        self.left_out["repeated"] += max(0, len(apart) - len(joined))
        return list(joined.values())

    def _joined(self, contig: str, edits: Sequence[Edit]) -> tuple[tuple[int, str, str], Edit]:
        start, end = edits[0].start, max(edit.end for edit in edits)
        spelled, at = "", start
        for edit in edits:
            spelled, at = spelled + self.bases(contig, at, edit.start) + edit.bases, edit.end
        ref, alt = self.bases(contig, start, end), spelled + self.bases(contig, at, end)
        return normal_form(contig, start, ref, alt, self.bases), trimmed(start, ref, alt)

    def _kept_apart(self, apart: list[Carried[T]]) -> list[Carried[T]]:
        kept: list[Carried[T]] = []
        for one in sorted(apart, key=lambda one: one.edit):
            if kept and kept[-1].edit.overlaps(one.edit):
                kept[-1] = self._once(kept[-1], one)
            else:
                kept.append(one)
        first, *others = kept
        return [first, *(other.spelled_at(other.edit, self.bases) for other in others)]


class _Others(Generic[T]):
    """Says whether something else is changed between two places."""

    def __init__(self, alleles: Iterable[Carried[T]]) -> None:
        self._edits: dict[str, list[Edit]] = {}
        for one in alleles:
            self._edits.setdefault(one.contig, []).append(one.placed)
        for edits in self._edits.values():
            edits.sort()

    def between(self, apart: Sequence[Carried[T]]) -> bool:
        """Whether another change begins between changes that coincide only when they are left-aligned past it."""
        own = {one.edit for one in apart}
        first, last = min(own), max(own)
        edits = self._edits[apart[0].contig]
        low, high = bisect_left(edits, first), bisect_left(edits, last)
        return any(edit not in own for edit in edits[low:high])


def _is_placed(one: Carried[T], first: Carried[T]) -> bool:
    """Whether it is known which haplotypes have it, in the same order as the first's."""
    everywhere = all(copy == 1 for copy in one.copies)
    return len(one.copies) == len(first.copies) and (everywhere or (one.phase is not None and one.phase == first.phase))


def _union(one: Carried[T], other: Carried[T]) -> tuple[int | None, ...]:
    pairs = zip(one.copies, other.copies, strict=True)
    return tuple(1 if 1 in pair else pair[0] if pair[0] == pair[1] else None for pair in pairs)


def _together(one: Carried[T], other: Carried[T]) -> Carried[T]:
    if len(one.copies) != len(other.copies):
        return one if one.count >= other.count else replace(one, copies=other.copies, phase=other.phase)
    if one.phase is not None and one.phase == other.phase:
        return replace(one, copies=_union(one, other))
    ploidy = len(one.copies)
    count = min(ploidy, one.count + other.count)
    return replace(one, copies=(1,) * count + (0,) * (ploidy - count), phase=None)
