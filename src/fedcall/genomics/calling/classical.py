"""The baseline everyone knows: bcftools mpileup and call, through pysam."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pysam.version import __bcftools_version__ as BCFTOOLS_VERSION  # noqa: N812

from fedcall.genomics.htslib import run_bcftools
from fedcall.genomics.index_files import htslib_name, reference_indexes, reference_needs_csi
from fedcall.genomics.reads.opening import check_alignments
from fedcall.genomics.regions import read_regions
from fedcall.genomics.vcf.bgzip import write_vcf
from fedcall.genomics.vcf.lines import open_text
from fedcall.shown import shown


def call_classical(
    alignments: Path, reference: Path, output: Path, regions: Path | None = None, sample: str | None = None
) -> None:
    """Call variants as `bcftools mpileup -q1 | bcftools call -mv` does, and write a bgzipped, indexed VCF.

    FORMAT has AD, DP and GQ besides GT and PL. Equal inputs give equal bytes: the header names no path and no command.

    Parameters
    ----------
    alignments : sorted, indexed BAM or CRAM
    reference : indexed FASTA
    output : VCF to write, with a tabix index beside it
    regions : BED to restrict calling to; the whole genome if None
    sample : name of the genotype column; the alignments' own sample if None

    Raises
    ------
    FedcallError
        If a file is missing or damaged, or alignments, regions and reference do not fit together.
    """
    alignments, reference = Path(alignments), Path(reference)
    intervals = read_regions(Path(regions), reference) if regions is not None else []
    check_alignments(alignments, reference, {contig for contig, _, _ in intervals} or None)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        likelihoods, calls = str(Path(folder) / "likelihoods.bcf"), str(Path(folder) / "calls.vcf")
        within: list[str] = []
        if intervals:
            bed = Path(folder) / "regions.bed"
            bed.write_text("".join(f"{contig}\t{start}\t{end}\n" for contig, start, end in intervals))
            within = ["-R", str(bed)]
        common = ["--no-version", "-o"]
        fields, bases = ["-a", "FORMAT/AD,FORMAT/DP"], ["-f", str(_linked(reference, Path(folder)))]
        pileup = ["-q1", *fields, *bases, *within, "-Ob", *common, likelihoods]
        run_bcftools(alignments, "mpileup", [*pileup, htslib_name(alignments)])
        run_bcftools(alignments, "call", ["-mv", "-a", "GQ", "-Ov", *common, calls, likelihoods])
        write_vcf(output, _portable(Path(calls), reference, sample), reference_needs_csi(reference))


def _linked(reference: Path, folder: Path) -> Path:
    """Return the reference under a plain name: bcftools writes its path into a header, where it may break a line."""
    link = folder / f"reference{reference.suffix if reference.suffix in ('.gz', '.bgz') else '.fa'}"
    for file, name in ((reference, link), *zip(reference_indexes(reference), reference_indexes(link), strict=True)):
        name.symlink_to(os.path.abspath(file))
    return link


def _portable(calls: Path, reference: Path, sample: str | None) -> Iterator[str]:
    with open_text(calls, compressed=False) as handle:
        for line in handle:
            line = line.rstrip("\n")
            if line.startswith("##reference="):
                line = f"##reference={shown(reference.name)}\n##fedcall_caller=bcftools {BCFTOOLS_VERSION}"
            elif line.startswith("#CHROM") and sample is not None:
                line = "\t".join([*line.split("\t")[:9], sample])
            yield line
