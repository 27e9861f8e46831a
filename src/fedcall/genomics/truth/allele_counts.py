"""How often each allele is carried in the truths of held-out people: what makes a variant rare among them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.genomics.vcf.rows import open_rows, patient_column

Allele = tuple[str, int, str, str]
"""Contig, 0-based position, REF, ALT."""
_HEADER = "contig\tposition\tref\talt\tcopies\n"


def count_alleles(labels: Iterable[Path]) -> Counter[Allele]:
    """Sum the copies of every allele over normalised truth VCFs (`normalise_labels`), one person each.

    Raises
    ------
    FedcallError
        If a file is missing or no VCF.
    """
    counts: Counter[Allele] = Counter()
    for path in labels:
        with open_rows(path, "labels of 'fedcall normalise-labels'") as vcf:
            for row in vcf.rows(patient_column(vcf, None)):
                copies = row.genotype().alleles.count(1)
                if row.alts and copies:
                    counts[row.contig, row.start, row.ref, row.alts[0]] += copies
    return counts


def write_allele_counts(path: Path, counts: Counter[Allele]) -> None:
    """Write counts as tab-separated text, sorted; positions are 1-based there, as in a VCF."""
    rows = [
        f"{contig}\t{start + 1}\t{ref}\t{alt}\t{copies}\n"
        for (contig, start, ref, alt), copies in sorted(counts.items())
    ]
    write_text(path, _HEADER + "".join(rows))


def read_allele_counts(path: Path) -> Counter[Allele]:
    """Read what `write_allele_counts` wrote; FedcallError naming file and line otherwise."""
    try:
        header, *lines = Path(path).read_text().splitlines(keepends=True)
    except (OSError, ValueError):
        raise FedcallError(f"{path}: no such file, or empty; 'fedcall allele-counts' makes it") from None
    if header != _HEADER:
        raise FedcallError(f"{path}:1: not a table of allele counts; 'fedcall allele-counts' makes one")
    counts: Counter[Allele] = Counter()
    for number, line in enumerate(lines, start=2):
        fields = line.rstrip("\n").split("\t")
        if len(fields) != 5 or not (fields[1].isdecimal() and fields[4].isdecimal()):
            raise FedcallError(f"{path}:{number}: five columns expected, contig to copies; make the table again")
        counts[fields[0], int(fields[1]) - 1, fields[2], fields[3]] = int(fields[4])
    return counts
