"""Bring alleles to the one form that VCF calls normal: trimmed and shifted to the left (Tan, Abecasis, Kang 2015)."""

from typing import NamedTuple

MAX_SHIFT = 256
"""Bases an indel is shifted at most: it bounds the reference that must be at hand, and no short read spans more."""

MAX_INDEL_LENGTH = 50
"""Longer ones are structural variants, which short windows cannot judge."""
_AMBIGUOUS = str.maketrans("RYSWKMBDHV", "ACCAGACAAA")


def without_ambiguity(bases: str) -> str:
    """Return bases as a VCF may spell them: of a code for several, the first of them (VCF 4.3, section 1.6.1, REF)."""
    return bases.translate(_AMBIGUOUS)


class Allele(NamedTuple):
    """A difference from the reference: 0-based position of the first base of REF, REF, ALT."""

    position: int
    ref: str
    alt: str

    @property
    def is_snp(self) -> bool:
        """Whether one base is replaced by one other."""
        return len(self.ref) == 1 and len(self.alt) == 1

    @property
    def is_indel(self) -> bool:
        """Whether bases are only inserted or only deleted after a common first base."""
        return len(self.ref) != len(self.alt) and min(len(self.ref), len(self.alt)) == 1 and self.ref[0] == self.alt[0]

    @property
    def end(self) -> int:
        """Position behind the last base of REF."""
        return self.position + len(self.ref)


def normalise(allele: Allele, sequence: str, start: int) -> list[Allele]:
    """Trim and left-align an allele; split substitutions of several bases into SNPs.

    Parameters
    ----------
    sequence : upper-case reference that holds the allele and at least `MAX_SHIFT` bases before it
    start : 0-based position of the sequence's first base

    Returns
    -------
    One allele, or several SNPs, or none if REF equals ALT. An allele that replaces bases by another number of bases
    ("complex") is trimmed only.

    Examples
    --------
    >>> normalise(Allele(4, "AT", "A"), "GATTTC", start=1)  # the last of three T is as good as the first
    [Allele(position=2, ref='AT', alt='A')]
    >>> normalise(Allele(1, "GC", "TA"), "AGC", start=0)
    [Allele(position=1, ref='G', alt='T'), Allele(position=2, ref='C', alt='A')]
    """
    position, ref, alt = allele
    if len(ref) == len(alt):
        return [Allele(position + k, a, b) for k, (a, b) in enumerate(zip(ref, alt, strict=True)) if a != b]
    while min(len(ref), len(alt)) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while min(len(ref), len(alt)) > 1 and ref[0] == alt[0]:
        position, ref, alt = position + 1, ref[1:], alt[1:]
    trimmed = Allele(position, ref, alt)
    if not trimmed.is_indel:
        return [trimmed]
    if len(alt) > len(ref):
        return [left_align_insertion(sequence, start, position, alt[1:])]
    return [left_align_deletion(sequence, start, position, len(ref) - 1)]


def left_align_insertion(sequence: str, start: int, anchor: int, inserted: str) -> Allele:
    """Return the leftmost form of an insertion after the base at position `anchor`."""
    at = anchor - start
    stop = max(0, at - MAX_SHIFT)
    while at > stop and sequence[at] == inserted[-1] and sequence[at] in "ACGT":
        inserted = sequence[at] + inserted[:-1]
        at -= 1
    return Allele(at + start, sequence[at], sequence[at] + inserted)


def left_align_deletion(sequence: str, start: int, anchor: int, length: int) -> Allele:
    """Return the leftmost form of a deletion of `length` bases after the base at position `anchor`."""
    at = anchor - start
    stop = max(0, at - MAX_SHIFT)
    while at > stop and sequence[at] == sequence[at + length] and sequence[at] in "ACGT":
        at -= 1
    return Allele(at + start, sequence[at : at + length + 1], sequence[at])


def right_shift(allele: Allele, sequence: str, start: int) -> int:
    """Return by how many bases an indel in leftmost form could stand further right and give the same sequence.

    Examples
    --------
    >>> right_shift(Allele(2, "AT", "A"), "GATTTC", start=1)
    2
    """
    at = allele.position - start + 1
    unit = allele.alt[1:] or allele.ref[1:]
    behind = at + len(allele.ref) - 1
    expected = (unit * (MAX_SHIFT // len(unit) + 1))[:MAX_SHIFT]
    found = sequence[behind : behind + MAX_SHIFT]
    if found == expected:
        return MAX_SHIFT
    for shift, (base, wanted) in enumerate(zip(found, expected, strict=False)):
        if base != wanted:
            return shift
    return len(found)


def smallest_period(unit: str) -> int:
    """Return the length of the shortest motif whose repetition gives `unit`.

    Examples
    --------
    >>> smallest_period("CACACA"), smallest_period("CAT")
    (2, 3)
    """
    for period in range(1, len(unit)):
        if len(unit) % period == 0 and unit == unit[:period] * (len(unit) // period):
            return period
    return len(unit)
