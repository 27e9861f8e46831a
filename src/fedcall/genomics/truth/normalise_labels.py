"""Bring true variants into one form: one patient, checked, split, left-aligned, genotypes only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.index_files import needs_csi
from fedcall.genomics.reference import open_reference, reference_contigs
from fedcall.genomics.regions import merge_spans, read_regions
from fedcall.genomics.truth.labels import label_types
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.carried import CarriedAlleles, Inside, read_carried
from fedcall.genomics.vcf.carried_allele import Carried
from fedcall.genomics.vcf.kept_order import keep_order
from fedcall.genomics.vcf.left_alignment import ReferenceBases
from fedcall.genomics.vcf.lines import Span


@dataclass(frozen=True)
class LabelSummary:
    """What became of the records of one truth file."""

    output: Path
    sample: str
    kept: int
    dropped: dict[str, int]

    def sentence(self) -> str:
        """Return one line for the log."""
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items())) or "none"
        return f"{self.output}: {self.kept} variants of {self.sample}; left out: {dropped}"


def normalise_labels(
    path: Path, reference: Path, output: Path, *, regions: Path | None = None, sample: str | None = None
) -> LabelSummary:
    """Write one patient's true variants as bgzipped, indexed VCF.

    Every record is checked against the reference, split by allele and left-aligned, and bases that change together
    become single changes; an indel stays behind any other change that may be on its haplotype, which it would otherwise
    change. Kept are alleles spelled in bases that the patient carries, with nothing but the genotype.
    Files of callers are read as well as truth sets: blocks without variation and symbolic alleles of a gVCF
    (`<NON_REF>`, `<*>`) are left out, and so are alleles that only say that another record deletes the base (`*`). Any
    other record that cannot be used is left out and counted; the others stay.

    Parameters
    ----------
    path : Path
        VCF (plain, gzipped or bgzipped) or BCF with genotypes, in any order, with or without an index.
    reference : Path
        Indexed FASTA.
    output : Path
        VCF to write, `.vcf.gz`; the index goes to `output` + `.tbi` (`.csi` where a contig of the reference is
        longer than 512 Mb), first.
    regions : Path, optional
        BED; only changes whose left-aligned record starts in a region are kept.
    sample : str, optional
        The patient's column; may be left out if there is only one.

    Raises
    ------
    FedcallError
        One line naming file, contig and position if a REF differs from the reference, or naming what else is wrong.
    """
    path, reference, output = Path(path), Path(reference), Path(output)
    spans = None if regions is None else read_regions(regions, reference)
    lengths = reference_contigs(reference)
    if output.resolve() == path.resolve():
        raise FedcallError(f"{output}: is the input itself; give another --output")
    found = read_carried(
        path, reference, lambda row, index: None, sample=sample, spans=spans, need_contigs=True, what="truth VCF"
    )
    types = label_types(path)
    lines = _output_header(found.sample, {contig: lengths[contig] for contig in found.contigs}, types)
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_reference(reference) as fasta:
        kept = keep_order(found.alleles, ReferenceBases(fasta))
        records = [(one.contig, one.start, _line(one)) for one in kept]
        records += [(contig, start, _doubt(fasta, contig, start, end)) for contig, start, end in _unclear(found, spans)]
    order = {contig: rank for rank, contig in enumerate(lengths)}
    records.sort(key=lambda record: (order[record[0]], record[1]))
    write_vcf(output, [*lines, *(line for _, _, line in records)], needs_csi(lengths.values()))
    return LabelSummary(output, found.sample, len(found.alleles), dict(found.left_out))


def _line(carried: Carried[None]) -> str:
    separator = "/" if carried.phase is None else "|"
    genotype = separator.join("." if copy is None else str(copy) for copy in carried.copies)
    return f"{carried.contig}\t{carried.start + 1}\t.\t{carried.ref}\t{carried.alt}\t.\tPASS\t.\tGT\t{genotype}"


def _unclear(found: CarriedAlleles[None], spans: Sequence[Span] | None) -> list[Span]:
    """Return where the file does not say what the person has, merged, as far as it meets the regions."""
    by_contig: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in found.unclear:
        by_contig.setdefault(contig, []).append((start, end))
    merged = [(contig, *span) for contig, own in by_contig.items() for span in merge_spans(own)]
    if spans is None:
        return merged
    inside = Inside(spans)
    return [(contig, start, end) for contig, start, end in merged if inside.end_of(contig, end - 1) > start]


def _doubt(fasta: pysam.FastaFile, contig: str, start: int, end: int) -> str:
    """Return a record without a genotype: candidates there get no label, in place of one that says "not carried"."""
    base = fasta.fetch(contig, start, start + 1).upper()
    base = base if base in "ACGT" else "N"
    return f"{contig}\t{start + 1}\t.\t{base}\t.\t.\tPASS\tEND={end}\tGT\t./."


def _output_header(sample: str, contigs: dict[str, int], types: str) -> list[str]:
    return [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={contig},length={length}>" for contig, length in contigs.items()),
        '##INFO=<ID=END,Number=1,Type=Integer,Description="Last position of a place without genotype">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        *([f"##fedcall_label_types={types}"] if types != "all" else []),
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]
