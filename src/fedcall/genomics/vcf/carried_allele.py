"""One allele that a person carries."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from fedcall.genomics.vcf.left_alignment import Edit, ReferenceBases

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Carried(Generic[T]):
    """An allele, and which of the person's copies of the genome carry it.

    Attributes
    ----------
    contig, start, ref, alt : 0-based; left-aligned and minimal, several bases changed together taken apart
    copies : per copy of the genome 1, 0, or None where the file does not say
    phase : copies with equal phase belong together (PS, or the whole file); None: their order means nothing
    edit : what the record changes, where the file places it
    noted : what the caller of `read_carried` wanted to know of the record
    """

    contig: str
    start: int
    ref: str
    alt: str
    copies: tuple[int | None, ...]
    phase: str | None
    edit: Edit
    noted: T

    @property
    def count(self) -> int:
        """Copies that carry the allele."""
        return sum(copy == 1 for copy in self.copies)

    @property
    def end(self) -> int:
        """0-based position after the last base of REF."""
        return self.start + len(self.ref)

    @property
    def placed(self) -> Edit:
        """What this allele changes, where the file places it: on a haplotype with other changes the place matters."""
        return self.edit if len(self.ref) != len(self.alt) else Edit(self.start, self.end, self.alt)

    def spelled_at(self, edit: Edit, reference: ReferenceBases) -> "Carried[T]":
        """Return the allele as this change, spelled with the base before it."""
        before = reference(self.contig, edit.start - 1, edit.start)
        removed = reference(self.contig, edit.start, edit.end)
        return replace(self, start=edit.start - 1, ref=before + removed, alt=before + edit.bases, edit=edit)
