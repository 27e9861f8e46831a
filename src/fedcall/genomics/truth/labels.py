"""Give candidates their labels: how many copies of the allele the patient truly carries, or that nobody can say."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedcall.genomics.alleles import Allele, normalise, right_shift
from fedcall.genomics.vcf.carried import Inside
from fedcall.genomics.vcf.files import check_ref, check_vcf
from fedcall.genomics.vcf.left_alignment import Edit, trimmed
from fedcall.genomics.vcf.record import VcfRow
from fedcall.genomics.vcf.rows import kept_open, open_rows, patient_column

if TYPE_CHECKING:
    import numpy as np

LABEL_TYPES_HEADER = "fedcall_label_types"
"""Header line of a truth VCF: `##fedcall_label_types=snps` says that it knows nothing about indels."""
_RECORDS_TO_JUDGE = 100
DOUBT = 10
"""Bases around a true indel that no candidate matches: a false one there may be the same variant in other words."""
UNKNOWN = -1
_LONGEST_TRUTH = 1_000
_WHAT = "truth VCF"


@dataclass
class TrueAlleles:
    """What the truth says about a stretch of a contig.

    Attributes
    ----------
    dosage : copies per normalised allele, 1 or 2
    unclear : (start, end) of records without a usable genotype or with alleles that are no sequences
    """

    dosage: dict[Allele, int] = field(default_factory=dict)
    unclear: list[tuple[int, int]] = field(default_factory=list)


def label_types(truth: Path) -> Literal["all", "snps"]:
    """Say whether a truth VCF knows indels.

    Its header line `##fedcall_label_types` decides. Without it, at least 100 records and no indel in any of them
    (for any sample) mean that it holds SNPs only.
    """
    with open_rows(truth, _WHAT) as vcf:
        stated = vcf.meta_value(LABEL_TYPES_HEADER)
        if stated is not None:
            return "snps" if stated == "snps" else "all"
        count = 0
        for row in vcf.rows():
            spelled = [alt for alt in row.alts if alt[:1] not in "<*"]
            count += bool(spelled)  # a gVCF's blocks say nothing about what it knows
            if spelled and (len(row.ref) > 1 or any(len(alt) > 1 for alt in spelled)):
                return "all"
    return "snps" if count >= _RECORDS_TO_JUDGE else "all"


def check_truth(truth: Path, reference: Path) -> None:
    """Refuse a truth VCF without index, or whose contigs are not the reference's: it would label everything 0.

    Raises
    ------
    FedcallError
        Naming the file, the contig where there is one, and what to do.
    """
    check_vcf(truth, reference, _WHAT)


def truth_sample(truth: Path, sample: str | None) -> str:
    """Return the patient's column of a truth VCF; errors as of `choose_sample`."""
    with open_rows(truth, _WHAT) as vcf:
        return patient_column(vcf, sample)


def read_truth(
    truth: Path, sample: str, contig: str, start: int, end: int, sequence: str, sequence_start: int
) -> TrueAlleles:
    """Read the patient's alleles that begin in [start, end), normalised.

    Parameters
    ----------
    sequence : upper-case reference from `sequence_start` on; holds [start - MAX_SHIFT, end + 1000) as far as the contig
        goes

    Raises
    ------
    FedcallError
        If a REF differs from the reference, or a row is no record.
    """
    found = TrueAlleles()
    stated: dict[Allele, dict[Edit, int]] = {}
    for row in kept_open(truth, _WHAT).rows(sample, [(contig, max(0, start), end)]):
        if start <= row.start < end:
            check_ref(truth, "truth", row, sequence, sequence_start)
            _add(found, stated, row, sequence, sequence_start)
        elif row.reach > row.end:  # a place without bases of its own, such as a long deletion, may begin elsewhere
            _add(found, stated, row, sequence, sequence_start)
    for allele, copies in stated.items():
        if len(copies) > 1 and not allele.is_snp:
            # They coincide when left-aligned only: on one haplotype they are another allele, on two this one twice.
            found.unclear += [
                (edit.start, max(edit.end, edit.start + 1))
                for edit in (*copies, Edit(allele.position, allele.end, allele.alt))
            ]
        else:
            found.dosage[allele] = min(2, sum(copies.values()))
    return found


def count_true_alleles(truth: Path, sample: str, spans: Iterable[tuple[str, int, int]]) -> int:
    """Return how many alternative alleles the truth knows in [start, end) of contigs, whether or not a read shows them.

    Only candidates get labels; this number says how much of the truth they are.
    """
    spans = list(spans)
    inside = Inside(spans)
    count = 0
    for row in kept_open(truth, _WHAT).rows(sample, spans):
        carried = {index for index in row.genotype().alleles if index and index <= len(row.alts)}
        alleles = [row.alts[index - 1] for index in carried]
        count += sum(allele.isalpha() for allele in alleles) if inside(row.contig, row.start) else 0
    return count


def label_candidates(
    candidates: Sequence[Allele],
    truth: TrueAlleles,
    regions: Sequence[tuple[int, int]],
    types: Literal["all", "snps"],
    sequence: str,
    sequence_start: int,
) -> "np.ndarray":
    """Label candidates of one contig.

    Parameters
    ----------
    candidates : alleles in normal form, all that were found around the truth's stretch
    truth : from `read_truth`
    regions : sorted, disjoint [start, end) the truth is confident in
    types : from `label_types`

    Returns
    -------
    int8, shape (n,)
        Copies in the truth, 0, 1 or 2; -1 if REF is not wholly inside one region, if the truth knows no such kind, or
        if the truth has something near that is not among the candidates in the same form.
    """
    import numpy as np  # not above: normalising labels needs none, and a cohort starts that once per patient

    names = set(candidates)
    doubtful = [(start - DOUBT, end + DOUBT) for start, end in truth.unclear]
    for allele in truth.dosage:
        if not allele.is_snp and allele not in names:
            reach = right_shift(allele, sequence, sequence_start) if allele.is_indel else 0
            doubtful.append((allele.position - DOUBT, allele.end + reach + DOUBT))
    labels = np.zeros(len(candidates), np.int8)
    starts = [start for start, _ in regions]
    for row, allele in enumerate(candidates):
        region = bisect_right(starts, allele.position) - 1
        if region < 0 or allele.end > regions[region][1] or (types == "snps" and not allele.is_snp):
            labels[row] = UNKNOWN
        elif allele in truth.dosage:
            labels[row] = truth.dosage[allele]
        elif any(start < allele.end and allele.position < end for start, end in doubtful):
            labels[row] = UNKNOWN
    return labels


def _add(
    found: TrueAlleles, stated: dict[Allele, dict[Edit, int]], row: VcfRow, sequence: str, sequence_start: int
) -> None:
    """Take in one record: copies per allele and change, or where nobody can say."""
    genotype = row.genotype().alleles or (None,)
    carried = sorted({index for index in genotype if index})
    if None in genotype or row.filters or (carried and carried[-1] > len(row.alts)):
        if carried or None in genotype:
            found.unclear.append((row.start, row.reach))
        return
    for index in carried:
        alt = row.alts[index - 1]
        if not set(row.ref + alt) <= set("ACGT") or len(row.ref) > _LONGEST_TRUTH:
            if alt not in ("*", row.ref):
                found.unclear.append((row.start, row.reach))
            continue
        copies = 2 if len(genotype) == 1 else sum(row.alts[copy - 1] == alt for copy in genotype if copy)
        edit = trimmed(row.start, row.ref, alt)
        for allele in normalise(Allele(row.start, row.ref, alt), sequence, sequence_start):
            # The same change twice is one statement.
            known = stated.setdefault(allele, {})
            known[edit] = max(known.get(edit, 0), copies)
