"""A contig of 600 Mb of which only the bases around a few reads are there: a sparse, cheap file."""

import random
from dataclasses import dataclass
from pathlib import Path

import pysam

from fedcall.genomics.vcf.bgzip import write_vcf
from tiny_alignments import Read, write_alignments

CONTIG, LENGTH, PLACE = "c", 600_000_000, 590_000_000
MARGIN = 10_000
_UNKNOWN = 2_000_000
"""Bases N on either side; further out nothing is written, and htslib would leave out what it reads there."""
_OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


@dataclass(frozen=True)
class LongContig:
    """Files of one person with one SNP at `PLACE`, 0-based, behind what a `.bai` and a `.tbi` reach."""

    reference: Path
    alignments: Path
    truth: Path
    regions: Path
    alt: str


def write_long_contig(folder: Path, patient: str = "P1") -> LongContig:
    """Write reference, reads with a `.csi`, truth and regions of one person."""
    bases = "".join(random.Random(8).choices("ACGT", k=2 * MARGIN))
    reference = folder / "long.fa"
    with open(reference, "wb") as handle:
        handle.write(b">c\n")
        handle.seek(3 + PLACE - MARGIN - _UNKNOWN)
        handle.write(b"N" * _UNKNOWN + bases.encode() + b"N" * _UNKNOWN)
        handle.seek(3 + LENGTH)
        handle.write(b"\n")
    Path(f"{reference}.fai").write_text(f"{CONTIG}\t{LENGTH}\t3\t{LENGTH}\t{LENGTH + 1}\n")
    alt = _OTHER[bases[MARGIN]]
    own = bases[:MARGIN] + alt + bases[MARGIN + 1 :]
    reads = [
        Read(PLACE - 90 + 4 * k, "100M", own[MARGIN - 90 + 4 * k : MARGIN + 10 + 4 * k], 40, name=f"r{k}")
        for k in range(22)
    ]
    alignments = write_alignments(folder, {CONTIG: LENGTH}, reads, "long.bam", csi=True)
    header = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={CONTIG},length={LENGTH}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{patient}",
    ]
    truth = folder / "long.vcf.gz"
    write_vcf(truth, [*header, f"{CONTIG}\t{PLACE + 1}\t.\t{bases[MARGIN]}\t{alt}\t50\tPASS\t.\tGT\t1/1"])
    regions = folder / "long.bed"
    regions.write_text(f"{CONTIG}\t{PLACE - 1_000}\t{PLACE + 1_000}\n")
    return LongContig(reference, alignments, truth, regions, alt)


def indexes(folder: Path) -> set[str]:
    """Return the kinds of index in a folder and all below."""
    return {path.suffix for path in folder.rglob("*") if path.suffix in (".bai", ".csi", ".tbi")}


def has_snp(calls: Path, alt: str) -> bool:
    """Say whether a VCF has the SNP where its `.csi` leads."""
    with pysam.VariantFile(str(calls)) as file:
        return [(record.pos, record.alts) for record in file.fetch(CONTIG, PLACE - 50, PLACE + 50)] == [
            (PLACE + 1, (alt,))
        ]
