"""Bring true variants into one form: one patient, checked, split, left-aligned, genotypes only."""

import gzip
import re
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import atomic_path
from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.regions import read_regions, widen_regions
from fedcall.genomics.truth.labels import label_types
from fedcall.genomics.vcf.sample import choose_sample

# Records are looked at this far outside the regions, bases: left alignment may move them inside.
REGION_MARGIN = 100


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

    Every record is checked against the reference, split by allele and left-aligned (`bcftools norm -c e -m -any`), and
    bases that change together become single changes. Kept are alleles spelled in bases that the patient carries, with
    nothing but the genotype. Files of callers are read as well as truth sets: blocks without variation and symbolic
    alleles of a gVCF (`<NON_REF>`, `<*>`) are left out, and so are alleles that only say that another record deletes
    the base (`*`).

    Parameters
    ----------
    path : Path
        VCF (plain or bgzipped) or BCF with genotypes.
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
    contigs, samples, has_contig_lines = _header(path)
    name = choose_sample(path, samples, sample)
    used = shared_contigs(path, contigs, reference, None if spans is None else {contig for contig, _, _ in spans})
    lengths = reference_contigs(reference)
    if spans is None:
        spans = [(contig, 0, lengths[contig]) for contig in used]
    types = label_types(path)
    if output.resolve() == path.resolve():
        raise FedcallError(f"{output}: is the input itself; give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".normalise-", dir=output.parent) as folder,
        atomic_path(output) as vcf,
        atomic_path(Path(f"{output}.tbi")) as tbi,
    ):
        source = path if has_contig_lines else _with_contig_lines(path, reference, Path(folder))
        normalised = _bcftools_norm(path, source, reference, name, spans, Path(folder))
        dropped: Counter[str] = Counter()
        variants = _ordered(_carried(normalised, spans, dropped), lengths, dropped)
        header = _output_header(name, {contig: lengths[contig] for contig in used}, types)
        with pysam.BGZFile(str(vcf), "wb") as handle:
            handle.write(header.encode())
            for contig, position, ref, alt, genotype in variants:
                handle.write(f"{contig}\t{position}\t.\t{ref}\t{alt}\t.\tPASS\t.\tGT\t{genotype}\n".encode())
        pysam.tabix_index(str(vcf), preset="vcf", force=True, index=str(tbi))
    return LabelSummary(output, name, len(variants), dict(dropped))


Variant = tuple[str, int, str, str, str]  # contig, 1-based position, REF, ALT, GT


def _header(path: Path) -> tuple[dict[str, int | None], list[str], bool]:
    """Return contigs with their lengths (None: not said), samples, and whether the header lists its contigs."""
    if not path.is_file():
        raise FedcallError(f"{path}: no such truth VCF")
    try:
        with pysam.VariantFile(str(path)) as variants:
            contigs = {contig: variants.header.contigs[contig].length for contig in variants.header.contigs}
            samples = list(variants.header.samples)
        listed = bool(contigs)
        if not listed:
            contigs = dict.fromkeys(_contigs_of_records(path))
    except (OSError, ValueError, EOFError) as error:
        raise FedcallError(f"{path}: not a readable VCF or BCF file ({error})") from None
    return contigs, samples, listed


def _contigs_of_records(path: Path) -> Iterator[str]:
    """Yield the contigs of a VCF whose header lists none."""
    with open(path, "rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if compressed else open(path) as handle:
        yield from {line.split("\t", 1)[0] for line in handle if not line.startswith("#")}


def _with_contig_lines(path: Path, reference: Path, folder: Path) -> Path:
    """Return a copy whose header lists the reference's contigs, which bcftools needs."""
    target = folder / "reheadered.vcf.gz"
    run_bcftools(path, "reheader", ["--fai", f"{reference}.fai", "-o", str(target), str(path)])
    return target


def _bcftools_norm(
    path: Path, source: Path, reference: Path, sample: str, spans: list[tuple[str, int, int]], folder: Path
) -> Path:
    """Return BCF with the sample's records near the spans, split, left-aligned and checked; `path` is for messages."""
    bed, selected, plain, normalised = (folder / name for name in ("near.bed", "1.bcf", "2.bcf", "3.bcf"))
    near = widen_regions(spans, REGION_MARGIN, reference_contigs(reference))
    bed.write_text("".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in near))
    indexed = any(Path(f"{source}{suffix}").is_file() for suffix in (".tbi", ".csi"))
    access = ["-R", str(bed), "--regions-overlap", "1"] if indexed else ["-T", str(bed), "--targets-overlap", "1"]
    # Trimming to the alleles of this patient comes first: what others carry need not be spelled out.
    run_bcftools(
        path, "view", ["--no-version", "-I", "-a", "-s", sample, *access, "-Ou", "-o", str(selected), str(source)]
    )
    run_bcftools(path, "annotate", ["--no-version", "-x", "INFO,^FORMAT/GT", "-Ou", "-o", str(plain), str(selected)])
    options = ["--no-version", "-f", str(reference), "-m", "-any", "-c", "e"]
    try:
        run_bcftools(path, "norm", [*options, "-Ou", "-o", str(normalised), str(plain)])
    except FedcallError as error:
        raise _explain(path, reference, str(error)) from None
    return normalised


def _explain(path: Path, reference: Path, message: str) -> FedcallError:
    """Return the error of a record that contradicts the reference, in our words."""
    found = re.search(r"mismatch at (\S+):(\d+)\D.*?REF_SEQ:'(\w*)' vs VCF:'(\w*)", message)
    if found is None:
        return FedcallError(message)
    contig, position, expected, ref = found.groups()
    return FedcallError(
        f"{path}: {contig}:{position}: REF is {ref}, but {reference} has {expected} there;"
        " use the reference the truth was made with"
    )


def _carried(normalised: Path, spans: list[tuple[str, int, int]], dropped: Counter[str]) -> Iterator[Variant]:
    """Yield the alleles the patient carries that are spelled in bases and start in a span."""
    inside = _Spans(spans)
    with pysam.VariantFile(str(normalised)) as records:
        for record in records:
            alleles: tuple[str, ...] = record.alleles or ()
            filters = [name for name in record.filter if name != "PASS"]
            call = record.samples[0]
            genotype = call.get("GT", ())
            changes = [
                change
                for change in _single_changes(record.pos, (record.ref or "").upper(), alleles[-1].upper())
                if inside(record.chrom, change[0] - 1)
            ]
            if not changes:
                continue
            if not genotype or all(allele is None for allele in genotype):
                dropped["without genotype"] += 1
            elif not any(genotype):
                dropped["not carried"] += 1
            elif filters:
                dropped["filtered"] += 1
            elif len(alleles) != 2 or not all(re.fullmatch("[ACGTacgt]+", allele) for allele in alleles):
                dropped["not spelled in bases"] += 1
            else:
                separator = "|" if call.phased else "/"
                spelled = separator.join("." if allele is None else str(allele) for allele in genotype)
                for position, ref, alt in changes:
                    yield record.chrom, position, ref, alt, spelled


def _single_changes(position: int, ref: str, alt: str) -> Iterator[tuple[int, str, str]]:
    """Yield the bases that differ of a substitution; anything that changes the length stays whole."""
    if len(ref) != len(alt) or ref == alt:
        yield position, ref, alt
        return
    for offset, (before, after) in enumerate(zip(ref, alt, strict=True)):
        if before != after:
            yield position + offset, before, after


def _ordered(variants: Iterator[Variant], lengths: dict[str, int], dropped: Counter[str]) -> list[Variant]:
    """Return variants by contig of the reference and position, equal alleles merged."""
    order = {contig: index for index, contig in enumerate(lengths)}
    unique: dict[tuple[str, int, str, str], Variant] = {}
    for variant in variants:
        known = unique.setdefault(variant[:4], variant)
        if known is not variant:
            dropped["repeated"] += 1
            unique[variant[:4]] = (*variant[:4], _merged(known[4], variant[4]))
    return sorted(unique.values(), key=lambda variant: (order[variant[0]], *variant[1:]))


def _merged(one: str, other: str) -> str:
    """Return the genotype of an allele that stands in two records.

    Phased, a haplotype carries it if either record says so. Unphased, it is taken for one statement made twice, and
    the one with more copies stays.
    """
    if "|" in one and "|" in other and len(one) == len(other) == 3:
        return "|".join("1" if "1" in pair else pair[0] for pair in zip(one[::2], other[::2], strict=True))
    return max(one, other, key=lambda genotype: genotype.count("1"))


def _output_header(sample: str, contigs: dict[str, int], types: str) -> str:
    lines = [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={contig},length={length}>" for contig, length in contigs.items()),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        *([f"##fedcall_label_types={types}"] if types != "all" else []),
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}",
    ]
    return "\n".join(lines) + "\n"


class _Spans:
    """Answer whether a 0-based position lies in merged, half-open spans."""

    def __init__(self, spans: list[tuple[str, int, int]]) -> None:
        self.by_contig: dict[str, tuple[list[int], list[int]]] = {}
        for contig, start, end in spans:
            starts, ends = self.by_contig.setdefault(contig, ([], []))
            starts.append(start)
            ends.append(end)

    def __call__(self, contig: str, position: int) -> bool:
        starts, ends = self.by_contig.get(contig, ([], []))
        index = bisect_right(starts, position) - 1
        return index >= 0 and position < ends[index]
