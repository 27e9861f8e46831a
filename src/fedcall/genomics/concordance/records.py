"""Read the variants of one sample inside regions, normalised so that two files can be compared allele by allele."""

import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.regions import widen_regions
from fedcall.genomics.vcf.sample import choose_sample
from fedcall.progress import tracked

Region = tuple[str, int, int]
Kind = Literal["snps", "indels"]
_BASES = re.compile("[ACGTN]+")
_MARGIN = 100


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
    def kind(self) -> Kind:
        """'snps' or 'indels'."""
        return "snps" if self.is_snp else "indels"


def read_variants(path: Path, reference: Path, regions: Sequence[Region], sample: str | None = None) -> list[Variant]:
    """Return the variants of one sample whose REF lies inside a region, sorted by the file's contigs and by position.

    Multi-allelic records are split and indels left-aligned (bcftools norm), substitutions of several bases become
    single ones, records that failed a filter and alleles that are not spelled out are left out.

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
    path = Path(path)
    column = _column(path, reference, regions, sample)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        bed, chosen, normal = (str(Path(folder) / name) for name in ("regions.bed", "chosen.bcf", "normal.bcf"))
        # Left alignment may move a variant into a region.
        wide = widen_regions(regions, _MARGIN, reference_contigs(reference))
        Path(bed).write_text("".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in wide))
        within = ["-R" if _is_indexed(path) else "-T", bed]
        arguments = ["--no-version", "-Ou", "-o", chosen, "-s", column, "-a", "-f", ".,PASS", *within, str(path)]
        run_bcftools(path, "view", arguments)
        _normalise(path, reference, chosen, normal)
        with pysam.VariantFile(normal) as records:
            inside = _Inside(regions)
            variants = tracked(_variants(records), f"reading {path.name}", "variants")
            return _merge(variant for variant in variants if inside(variant))


def _column(path: Path, reference: Path, regions: Sequence[Region], sample: str | None) -> str:
    if not path.is_file():
        raise FedcallError(f"{path}: no such VCF file")
    try:
        with pysam.VariantFile(str(path)) as file:
            samples = list(file.header.samples)
            contigs = {name: contig.length or None for name, contig in file.header.contigs.items()}
        if not contigs and _is_indexed(path):
            with pysam.TabixFile(str(path)) as index:
                contigs = dict.fromkeys(index.contigs)
    except (ValueError, OSError) as error:
        raise FedcallError(f"{path}: not a readable VCF file ({error})") from None
    shared_contigs(path, contigs, reference, {contig for contig, _, _ in regions})
    return choose_sample(path, samples, sample)


def _is_indexed(path: Path) -> bool:
    return any(Path(f"{path}{suffix}").is_file() for suffix in (".tbi", ".csi"))


def _normalise(path: Path, reference: Path, chosen: str, normal: str) -> None:
    try:
        run_bcftools(
            path, "norm", ["--no-version", "-m", "-any", "-c", "e", "-f", str(reference), "-Ou", "-o", normal, chosen]
        )
    except FedcallError as error:
        if "mismatch" in str(error).lower():
            place = str(error).split("mismatch", 1)[1].split(";")[0].strip(" )")
            raise FedcallError(
                f"{path}: REF differs from {reference} {place}; use the reference the file was made with"
            ) from None
        raise


def _variants(records: pysam.VariantFile) -> Iterator[Variant]:
    for record in records:
        ref, alts = (record.ref or "").upper(), record.alts
        if alts is None or len(alts) != 1:
            continue
        alt = alts[0].upper()
        if not (_BASES.fullmatch(ref) and _BASES.fullmatch(alt)):
            continue
        call = record.samples[0]
        genotype: tuple[int | None, ...] = call["GT"] if "GT" in record.format else ()
        copies = sum(allele == 1 for allele in genotype)
        if copies == 0:
            continue
        dosage = 2 if len(genotype) == 1 else min(copies, 2)
        depth = call["DP"] if "DP" in record.format else None
        quality = call["GQ"] if "GQ" in record.format else None
        fraction = _fraction(call["AD"]) if "AD" in record.format else None
        variant = Variant(record.contig, record.start, ref, alt, dosage, record.qual, quality, depth, fraction)
        yield from _single_bases(variant)


def _fraction(allele_depths: tuple[int | None, ...]) -> float | None:
    reads = [count or 0 for count in allele_depths or ()]
    total = sum(reads, start=0)
    return reads[-1] / total if len(reads) > 1 and total else None


def _single_bases(variant: Variant) -> Iterator[Variant]:
    if len(variant.ref) != len(variant.alt):
        yield variant
        return
    for offset, (ref, alt) in enumerate(zip(variant.ref, variant.alt, strict=True)):
        if ref != alt:
            yield replace(variant, start=variant.start + offset, ref=ref, alt=alt)


class _Inside:
    """Whether the REF of a variant lies inside one of many intervals."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.starts: dict[str, list[int]] = {}
        self.ends: dict[str, list[int]] = {}
        for contig, start, end in regions:
            self.starts.setdefault(contig, []).append(start)
            self.ends.setdefault(contig, []).append(end)

    def __call__(self, variant: Variant) -> bool:
        at = bisect_right(self.starts.get(variant.contig, []), variant.start) - 1
        return at >= 0 and variant.end <= self.ends[variant.contig][at]


def _merge(variants: Iterable[Variant]) -> list[Variant]:
    """Sum the copies of alleles that stand in several records (two phased substitutions that share a base)."""
    merged: dict[tuple[str, int, str, str], Variant] = {}
    for variant in variants:
        known = merged.get(variant.key)
        merged[variant.key] = variant if known is None else replace(known, dosage=min(known.dosage + variant.dosage, 2))
    contigs = {contig: rank for rank, contig in enumerate(dict.fromkeys(key[0] for key in merged))}
    return sorted(merged.values(), key=lambda variant: (contigs[variant.contig], *variant.key[1:]))
