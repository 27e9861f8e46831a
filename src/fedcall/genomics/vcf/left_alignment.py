"""Bring an allele to the one form that VCF calls normal, wherever the reference is (Tan, Abecasis, Kang 2015)."""

from typing import NamedTuple

import pysam

_CHUNK = 1 << 16
_CHUNKS = 16
_STEP = 256

_AMBIGUITY = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
}


class Edit(NamedTuple):
    """Bases [start, end) of a contig, 0-based, and what stands in their place; as little as possible."""

    start: int
    end: int
    bases: str

    def overlaps(self, other: "Edit") -> bool:
        """Whether no haplotype can have both: they change the same bases, or insert at the same place."""
        if self.start == self.end == other.start == other.end:
            return True
        return self.start < other.end and other.start < self.end


class ReferenceBases:
    """Bases of an open FASTA in upper case, a stretch of it kept in memory."""

    def __init__(self, fasta: pysam.FastaFile) -> None:
        self._fasta = fasta
        self._lengths = dict(zip(fasta.references, fasta.lengths, strict=True))
        self._chunks: dict[tuple[str, int], str] = {}

    def __call__(self, contig: str, start: int, end: int) -> str:
        """Return bases [start, end), as far as the contig goes."""
        end = min(end, self._lengths[contig])
        first, last = start // _CHUNK, (end - 1) // _CHUNK
        if first == last:
            return self._chunk(contig, first)[start - first * _CHUNK : end - first * _CHUNK]
        joined = "".join(self._chunk(contig, chunk) for chunk in range(first, last + 1))
        return joined[start - first * _CHUNK : end - first * _CHUNK]

    def _chunk(self, contig: str, number: int) -> str:
        found = self._chunks.get((contig, number))
        if found is None:
            if len(self._chunks) >= _CHUNKS:
                del self._chunks[next(iter(self._chunks))]
            found = self._fasta.fetch(contig, number * _CHUNK, (number + 1) * _CHUNK).upper()
            self._chunks[contig, number] = found
        return found


def agrees(ref: str, expected: str) -> bool:
    """Return whether REF can be what a reference has there, whose ambiguity codes stand for any of their bases."""
    if ref == expected:
        return True
    return len(ref) == len(expected) and all(
        base == own or base in _AMBIGUITY.get(own, "") for base, own in zip(ref, expected, strict=True)
    )


def trimmed(start: int, ref: str, alt: str) -> Edit:
    """Return the bases that change, without those that REF and ALT share at their beginnings and then at their ends."""
    shortest, before, behind = min(len(ref), len(alt)), 0, 0
    while before < shortest and ref[before] == alt[before]:
        before += 1
    while before + behind < shortest and ref[-1 - behind] == alt[-1 - behind]:
        behind += 1
    return Edit(start + before, start + len(ref) - behind, alt[before : len(alt) - behind])


def normal_form(contig: str, start: int, ref: str, alt: str, reference: ReferenceBases) -> tuple[int, str, str]:
    """Return 0-based position, REF and ALT of the leftmost spelling; an indel keeps one base before it.

    Alleles of equal lengths are trimmed and stay several bases long. At the start of a contig, where no base stands
    before an indel, the base behind it is kept.
    """
    edit = trimmed(start, ref, alt)
    removed = ref[edit.start - start : edit.end - start]
    if removed and edit.bases:
        return edit.start, removed, edit.bases
    edit, removed = _leftmost(contig, edit, removed, reference)
    if edit.start == 0:
        behind = reference(contig, edit.end, edit.end + 1)
        return 0, removed + behind, edit.bases + behind
    before = reference(contig, edit.start - 1, edit.start)
    return edit.start - 1, before + removed, before + edit.bases


def _leftmost(contig: str, edit: Edit, removed: str, reference: ReferenceBases) -> tuple[Edit, str]:
    """Return an insertion or a deletion as far to the left as it spells the same sequence."""
    unit = removed or edit.bases
    size, shift, position = len(unit), 0, edit.start
    while position > 0:
        low = max(0, position - _STEP)
        stretch = reference(contig, low, position)
        moved = 0
        # Moved by one base to the left, the unit's last base becomes its first.
        while moved < len(stretch) and stretch[-1 - moved] == unit[(size - 1 - (shift + moved)) % size]:
            moved += 1
        shift, position = shift + moved, position - moved
        if moved < len(stretch):
            break
    turn = -shift % size
    unit = unit[turn:] + unit[:turn]
    if removed:
        return Edit(position, position + size, ""), unit
    return Edit(position, position, unit), ""
