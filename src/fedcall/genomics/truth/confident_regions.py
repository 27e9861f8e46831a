"""Confident regions out of a gVCF: where its caller is sure of the genotype, variant or not."""

from collections.abc import Iterator
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.regions import merge_spans
from fedcall.genomics.vcf.sample import choose_sample

GENOTYPE_QUALITY = 20
"""At least this GQ (Phred): at most one genotype in a hundred is wrong."""


def write_confident_regions(
    gvcf: Path, reference: Path, output: Path, *, sample: str | None = None, quality: int = GENOTYPE_QUALITY
) -> int:
    """Write the regions a gVCF is sure about as BED, in the order of the reference; return their length in bases.

    A record counts if its genotype is called with a GQ of at least `quality` and no filter but RefCall (DeepVariant's
    word for "no variant here") names it. A block covers POS to END, a variant the bases of its REF.

    Parameters
    ----------
    gvcf : Path
        VCF, plain or bgzipped, as GATK HaplotypeCaller (`<NON_REF>`) or DeepVariant (`<*>`) write it.
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
    spans: dict[str, list[tuple[int, int]]] = {}
    blocks = 0
    try:
        with pysam.VariantFile(str(gvcf)) as records:
            named = {name: contig.length for name, contig in records.header.contigs.items()}
            used = shared_contigs(gvcf, named, reference)
            records.subset_samples([choose_sample(gvcf, list(records.header.samples), sample)])
            for record in records:
                blocks += _is_block(record)
                if record.contig in used and _is_sure(record, quality):
                    spans.setdefault(record.contig, []).append((record.start, record.stop))
    except (OSError, ValueError) as error:
        raise FedcallError(f"{gvcf}: not a readable VCF file ({error})") from None
    if not blocks:
        raise FedcallError(
            f"{gvcf}: no blocks without variation, so it is no gVCF; give a BED of the regions in which it is complete"
        )
    if not spans:
        raise FedcallError(f"{gvcf}: no genotype with GQ {quality} or more; is this the right sample?")
    rows = list(_ordered(spans, lengths))
    write_text(Path(output), "".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in rows))
    return sum(end - start for _, start, end in rows)


def _is_block(record: pysam.VariantRecord) -> bool:
    return all(alt in ("<NON_REF>", "<*>") for alt in record.alts or ())


def _is_sure(record: pysam.VariantRecord, quality: int) -> bool:
    call = record.samples[0]
    genotype = call.get("GT") or (None,)
    stated = call.get("GQ", call.get("RGQ"))
    return (
        None not in genotype and stated is not None and stated >= quality and set(record.filter) <= {"PASS", "RefCall"}
    )


def _ordered(spans: dict[str, list[tuple[int, int]]], lengths: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    for contig, length in lengths.items():
        for start, end in merge_spans(spans.get(contig, ())):
            yield contig, start, min(end, length)
