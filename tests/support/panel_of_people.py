"""A panel of allele frequencies, counted over the truths of simulated people."""

from collections.abc import Iterable
from pathlib import Path

import pysam

from fedcall.genomics.truth.allele_counts import count_alleles


def write_panel(path: Path, truths: Iterable[Path], contig: str | None = None) -> Path:
    """Write AC and AN of every allele that the people of `truths` carry, bgzipped and indexed; return the file."""
    truths = sorted(truths)
    counts = count_alleles(truths)
    lines = ["##fileformat=VCFv4.3"]
    lines += [f"##contig=<ID={contig or name}>" for name in dict.fromkeys(allele[0] for allele in counts)]
    lines += [
        f'##INFO=<ID={name},Number={number},Type=Integer,Description="x">'
        for name, number in (("AC", "A"), ("AN", "1"))
    ]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    for (name, start, ref, alt), copies in sorted(counts.items()):
        lines.append(f"{contig or name}\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\tAC={copies};AN={2 * len(truths)}")
    path.write_text("\n".join(lines) + "\n")
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return Path(f"{path}.gz")
