"""Tiny references, BAM files and VCF files for tests, written with pysam."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pysam


@dataclass(frozen=True)
class Read:
    """One alignment record. `qualities` is one number for all bases, a list, or None for missing ones."""

    position: int
    cigar: str
    bases: str | None
    qualities: int | list[int] | None = 35
    flag: int = 0
    mapping_quality: int = 60
    name: str | None = None
    mate_position: int | None = None


def write_reference(folder: Path, sequences: dict[str, str]) -> Path:
    path = folder / "reference.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()))
    pysam.faidx(str(path))
    return path


def write_alignments(
    folder: Path, contigs: dict[str, int], reads: Sequence[Read], name: str = "reads.bam", csi: bool = False
) -> Path:
    """Write reads of the first contig, sorted and indexed."""
    path = folder / name
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": key, "LN": size} for key, size in contigs.items()]}
    )
    with pysam.AlignmentFile(str(path), "wb", header=header) as handle:
        for number, read in sorted(enumerate(reads), key=lambda pair: pair[1].position):
            handle.write(_segment(header, read, read.name or f"read{number}"))
    pysam.index(*(["-c"] if csi else []), str(path))
    return path


def write_truth(
    folder: Path, contigs: dict[str, int], records: Sequence[tuple[int, str, str, tuple[int | None, ...]]]
) -> Path:
    """Write (0-based position, REF, comma-separated ALT, genotype) of sample `p`, bgzipped and indexed."""
    path = folder / "truth.vcf"
    lines = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += [f"##contig=<ID={name},length={size}>" for name, size in contigs.items()]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp")
    contig = next(iter(contigs))
    for position, ref, alt, genotype in sorted(records):
        text = "/".join("." if copy is None else str(copy) for copy in genotype)
        lines.append(f"{contig}\t{position + 1}\t.\t{ref}\t{alt}\t.\tPASS\t.\tGT\t{text}")
    path.write_text("\n".join(lines) + "\n")
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return Path(f"{path}.gz")


def _segment(header: pysam.AlignmentHeader, read: Read, name: str) -> pysam.AlignedSegment:
    segment = pysam.AlignedSegment(header)
    segment.query_name = name
    segment.flag = read.flag
    segment.reference_id = 0
    segment.reference_start = read.position
    segment.mapping_quality = read.mapping_quality
    segment.cigarstring = read.cigar
    segment.query_sequence = read.bases
    if read.bases is not None and read.qualities is not None:
        many = read.qualities if isinstance(read.qualities, list) else [read.qualities] * len(read.bases)
        segment.query_qualities = many
    if read.mate_position is not None:
        segment.next_reference_id = 0
        segment.next_reference_start = read.mate_position
    return segment
