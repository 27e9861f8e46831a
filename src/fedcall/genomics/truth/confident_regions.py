"""Confident regions out of a gVCF: where its caller is sure of the genotype, variant or not."""

from collections.abc import Iterator
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.genomics.reference import reference_contigs
from fedcall.genomics.regions import merge_spans, subtract_spans
from fedcall.genomics.vcf.carried import patient_file
from fedcall.genomics.vcf.record import VcfRow, number
from fedcall.genomics.vcf.rows import open_rows

GENOTYPE_QUALITY = 20
"""At least this GQ (Phred): at most one genotype in a hundred is wrong."""


def write_confident_regions(
    gvcf: Path, reference: Path, output: Path, *, sample: str | None = None, quality: int = GENOTYPE_QUALITY
) -> int:
    """Write the regions a gVCF is sure about as BED, in the order of the reference; return their length in bases.

    A record counts if its genotype is called with a GQ of at least `quality` and no filter but RefCall (DeepVariant's
    word for "no variant here") names it. A block covers POS to END (since VCF 4.5: FORMAT/LEN bases), a variant the
    bases of its REF; an unsure one of a symbolic allele reaches as far as END or SVLEN say. Where one record is
    sure and another is not, nothing is: what any record is unsure about is left out.

    Parameters
    ----------
    gvcf : Path
        VCF, plain or compressed, or BCF, as GATK HaplotypeCaller (`<NON_REF>`) or DeepVariant (`<*>`) write it.
    reference : Path
        Indexed FASTA.
    sample : str, optional
        The patient's column; may be left out if there is only one.

    Raises
    ------
    FedcallError
        If the file is no VCF, shares no contig with the reference, lacks the sample, has no block without variation
        (so it is no gVCF and silence says nothing), or is sure of nothing.
    """
    gvcf, lengths = Path(gvcf), reference_contigs(Path(reference))
    sure: dict[str, list[tuple[int, int]]] = {}
    unsure: dict[str, list[tuple[int, int]]] = {}
    blocks = 0
    with open_rows(gvcf, "gVCF") as vcf:
        name, contigs = patient_file(vcf, reference, sample)
        used = set(contigs)
        for row in vcf.rows(name):
            is_block = _is_block(row)
            blocks += is_block
            if row.contig in used and row.start >= 0:
                by_contig = sure if _is_sure(row, quality) else unsure
                reach = _end(row) if is_block else row.end if by_contig is sure else row.reach
                by_contig.setdefault(row.contig, []).append((row.start, reach))
    spans = {contig: subtract_spans(own, unsure.get(contig, ())) for contig, own in sure.items()}
    if not blocks:
        raise FedcallError(
            f"{gvcf}: no blocks without variation, so it is no gVCF; give a BED of the regions in which it is complete"
        )
    if not any(spans.values()):
        raise FedcallError(f"{gvcf}: no genotype with GQ {quality} or more; is this the right sample?")
    rows = list(_ordered(spans, lengths))
    write_text(Path(output), "".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in rows))
    return sum(end - start for _, start, end in rows)


def _is_block(row: VcfRow) -> bool:
    return all(alt in ("<NON_REF>", "<*>", "<X>") for alt in row.alts)


def _end(row: VcfRow) -> int:
    """Return the position after a block's last base: that of END (or LEN), whether or not the header declares it."""
    stated = row.information("END")
    if stated is None:
        return row.reach
    if not stated.isdecimal() or int(stated) <= row.start:
        raise FedcallError(f"{row.place}: END is '{stated[:20]}'; a position at or behind POS is needed")
    return int(stated)


def _is_sure(row: VcfRow, quality: int) -> bool:
    stated = number(row.value("GQ") or row.value("RGQ"))
    alleles = row.genotype().alleles
    known = bool(alleles) and None not in alleles
    return known and stated is not None and stated >= quality and set(row.filters) <= {"RefCall"}


def _ordered(spans: dict[str, list[tuple[int, int]]], lengths: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    for contig, length in lengths.items():
        for start, end in merge_spans(spans.get(contig, ())):
            yield contig, start, min(end, length)
