"""Read the variants of one sample inside regions, normalised so that two files can be compared allele by allele."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from fedcall.genomics.vcf.carried import FILTERED, NOT_CARRIED, WITHOUT_GENOTYPE, Inside, read_carried
from fedcall.genomics.vcf.carried_allele import Carried
from fedcall.genomics.vcf.left_alignment import Edit, trimmed
from fedcall.genomics.vcf.record import VcfRow, number
from fedcall.progress import tracked

Region = tuple[str, int, int]
VariantKind = Literal["snps", "indels"]
_UNREMARKABLE = (WITHOUT_GENOTYPE, NOT_CARRIED, FILTERED, "deleted by another record", "repeated")


@dataclass(frozen=True)
class Variant:
    """One alternative allele and its copies in one person.

    Attributes
    ----------
    contig, start : str, int
        0-based position of the first base of `ref`.
    ref, alt : str
        Upper-case alleles, left-aligned and minimal (an indel keeps one base before it).
    dosage : int
        Copies of `alt`, 1 or 2; a haploid genotype counts as 2, as a diploid caller reports it.
    quality, genotype_quality, depth : float or int, or None
        QUAL, GQ and DP, where the file has them.
    allele_fraction : float, or None
        Share of `alt` among the reads that AD counts, where the file has them.
    placed : Edit, or None
        What changes where the file places it: left-aligned past another change of its haplotype, an indel would
        spell another sequence. None: where `start`, `ref` and `alt` say.
    """

    contig: str
    start: int
    ref: str
    alt: str
    dosage: int
    quality: float | None = None
    genotype_quality: float | None = None
    depth: int | None = None
    allele_fraction: float | None = None
    placed: Edit | None = None

    @property
    def edit(self) -> Edit:
        """The bases that change, and what stands in their place."""
        return self.placed or trimmed(self.start, self.ref, self.alt)

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What makes two variants the same allele."""
        return self.contig, self.start, self.ref, self.alt

    @property
    def end(self) -> int:
        """0-based position after the last base of `ref`."""
        return self.start + len(self.ref)

    @property
    def is_snp(self) -> bool:
        """Whether one base replaces one base."""
        return len(self.ref) == len(self.alt) == 1

    @property
    def kind(self) -> VariantKind:
        """'snps' or 'indels'."""
        return "snps" if self.is_snp else "indels"


def read_variants(path: Path, reference: Path, regions: Sequence[Region], sample: str | None = None) -> list[Variant]:
    """Return the variants of one sample whose REF lies inside a region, sorted by contig of the reference and position.

    Multi-allelic records are split and indels left-aligned, substitutions of several bases become single ones, records
    that failed a filter and alleles that are not spelled out are left out. Of two unphased indels that coincide when
    left-aligned one stays where the file places it, so that both ways to put them on haplotypes stay open.

    Parameters
    ----------
    path : VCF or BCF, plain or compressed, with or without an index
    reference : indexed FASTA
    regions : merged and sorted, 0-based, half-open
    sample : column to read; the only one if None

    Raises
    ------
    FedcallError
        If the file is missing or no VCF, lacks the sample or a contig of the regions, or its REF differs from the
        reference.
    """
    return read_and_count(path, reference, regions, sample)[0]


def read_and_count(
    path: Path, reference: Path, regions: Sequence[Region], sample: str | None = None
) -> tuple[list[Variant], Counter[str]]:
    """Return what `read_variants` does, and how many alleles of what kind could not be used."""
    found = read_carried(
        path, reference, _stated, sample=sample, spans=regions, need_contigs=True, keep_apart=True, what="VCF file"
    )
    inside = Inside(regions)
    variants = tracked(map(_variant, found.alleles), f"reading {Path(path).name}", "variants")
    unusable = Counter({reason: count for reason, count in found.left_out.items() if reason not in _UNREMARKABLE})
    return [one for one in variants if one.end <= inside.end_of(one.contig, one.start)], unusable


class _Stated(NamedTuple):
    quality: float | None
    genotype_quality: float | None
    depth: int | None
    allele_fraction: float | None


def _stated(row: VcfRow, index: int) -> _Stated:
    """Return what a record says about its own call; a field of another type than usual counts as missing."""
    depth = number(row.value("DP"))
    fraction = _fraction(row.value("AD"), index, len(row.alts))
    return _Stated(row.quality, number(row.value("GQ")), None if depth is None else int(depth), fraction)


def _fraction(allele_depths: str | None, index: int, alternatives: int) -> float | None:
    reads = [number(count) or 0 for count in (allele_depths or "").split(",")]
    if len(reads) != alternatives + 1:
        return None
    total = reads[0] + reads[index]
    return reads[index] / total if min(reads) >= 0 and total else None


def _variant(carried: Carried[_Stated]) -> Variant:
    dosage = 2 if len(carried.copies) == 1 else min(carried.count, 2)
    place = carried.contig, carried.start, carried.ref, carried.alt
    return Variant(*place, dosage, *carried.noted, placed=carried.placed)
