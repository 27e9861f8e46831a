"""Left-align one person's indels no further than the next change that may be on the same haplotype.

An indel that is moved past another change of its haplotype spells another sequence than the file did: on CAGAAT, which
has a G for the A of CAAAAT, an A put in behind the G is not an A put in before it. `bcftools norm` moves it anyway.
"""

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import TypeVar

from fedcall.genomics.vcf.carried_allele import Carried
from fedcall.genomics.vcf.left_alignment import Edit, ReferenceBases

T = TypeVar("T")


def keep_order(alleles: Sequence[Carried[T]], reference: ReferenceBases) -> list[Carried[T]]:
    """Return the alleles of one person, indels that were left-aligned past another change moved back behind it.

    Parameters
    ----------
    alleles : as `read_carried` gives them, sorted by contig

    Returns
    -------
    The same alleles in the same order; those moved back are spelled with one base before them, at another `start`.
    """
    kept: list[Carried[T]] = []
    for _, group in groupby(alleles, key=lambda one: one.contig):
        own = list(group)
        by_place = sorted(own, key=lambda one: one.placed)
        reaches = list(accumulate((one.placed.end for one in by_place), max))
        moved = {}
        for rank, one in enumerate(by_place):
            begin = _begin(one)
            if begin is None or begin >= one.edit.start:
                continue
            floor = begin
            for before in range(rank - 1, -1, -1):
                if reaches[before] < begin:
                    break
                other = by_place[before]
                if other.placed.end >= begin and _may_share_a_haplotype(one, other):
                    floor = max(floor, other.placed.end + 1)
            if floor > begin:
                moved[id(one)] = _moved(one, min(floor, one.edit.start), reference)
        kept += [moved.get(id(one), one) for one in own]
    return kept


def _begin(one: Carried[T]) -> int | None:
    """Return where the change of an indel begins once it is left-aligned; None for anything else."""
    if (bool(one.edit.bases)) == (one.edit.start < one.edit.end):
        return None
    at_start = one.start == 0 and one.ref[-1] == one.alt[-1] and one.ref[0] != one.alt[0]
    return 0 if at_start else one.start + 1


def _may_share_a_haplotype(one: Carried[T], other: Carried[T]) -> bool:
    if one.phase is None or one.phase != other.phase or len(one.copies) != len(other.copies):
        return True
    return any(mine != 0 and its != 0 for mine, its in zip(one.copies, other.copies, strict=True))


def _moved(one: Carried[T], begin: int, reference: ReferenceBases) -> Carried[T]:
    """Return an indel whose change begins at a place between the leftmost and the file's."""
    start, end, new = one.edit
    back = start - begin
    # Moved by one base to the left, inserted bases turn: the last becomes the first.
    turn = -back % len(new) if new else 0
    new = new[turn:] + new[:turn]
    return one.spelled_at(Edit(begin, end - back, new), reference)
