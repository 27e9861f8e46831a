"""Bring true variants into one form: one patient, checked, split, left-aligned, genotypes only."""

from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.reference import reference_contigs
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.labels import label_types
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.carried import Carried, read_carried


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
    become single changes. Kept are alleles spelled in bases that the patient carries, with nothing but the genotype.
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
        VCF to write, `.vcf.gz`; the index goes to `output` + `.tbi`, first.
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
    write_vcf(output, [*lines, *(_line(carried) for carried in found.alleles)])
    return LabelSummary(output, found.sample, len(found.alleles), dict(found.left_out))


def _line(carried: Carried[None]) -> str:
    separator = "/" if carried.phase is None else "|"
    genotype = separator.join("." if copy is None else str(copy) for copy in carried.copies)
    return f"{carried.contig}\t{carried.start + 1}\t.\t{carried.ref}\t{carried.alt}\t.\tPASS\t.\tGT\t{genotype}"


def _output_header(sample: str, contigs: dict[str, int], types: str) -> list[str]:
    return [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={contig},length={length}>" for contig, length in contigs.items()),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        *([f"##fedcall_label_types={types}"] if types != "all" else []),
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]
