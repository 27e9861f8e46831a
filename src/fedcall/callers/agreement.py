"""Where several callers agree and where they do not, allele by allele, with the reads where they do not."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pysam
from pydantic import Field, ValidationError

from fedcall.callers.software import CallerSoftware, software_of
from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.haplotypes import Fetch, MatchLevel, match
from fedcall.genomics.concordance.records import Region, Variant, VariantKind, read_variants
from fedcall.genomics.concordance.worst_errors import CallError, draw_error
from fedcall.genomics.reads.opening import open_alignments
from fedcall.genomics.reference import open_reference
from fedcall.genomics.truth.labels import label_types

AlleleKind = Literal["true variant", "false call"]
_MAXIMUM_SEVERITY = 99.0


class Pattern(Document):
    """How many alleles exactly these callers have: true ones with the right genotype, or false calls."""

    type: VariantKind
    kind: AlleleKind
    callers: tuple[str, ...] = Field(description="In the order of the report; empty: a true variant nobody found.")
    count: int


class Disagreement(Document):
    """One allele on which the callers disagree."""

    contig: str
    position: int = Field(description="1-based, as in the VCF.")
    ref: str
    alt: str
    kind: AlleleKind
    true_copies: int
    callers: tuple[str, ...] = Field(description="Who calls it; a true variant: with the right genotype.")
    severity: float = Field(description="Phred: the highest genotype quality with which anybody calls it, at most 99.")
    drawn: CallError | None = Field(None, description="The reads around it; null: without alignments.")


class Agreement(Document):
    """Agreement of callers on one patient."""

    schema_version: Literal["fedcall.agreement/1"] = "fedcall.agreement/1"
    callers: tuple[CallerSoftware, ...]
    patterns: tuple[Pattern, ...]
    disagreements_in_all: int
    disagreements: tuple[Disagreement, ...] = Field(description="The worst of them, worst first.")


@dataclass(frozen=True)
class Case:
    """What several callers' calls of one patient are held against.

    Attributes
    ----------
    regions : merged and sorted, 0-based, half-open
    sample : the patient's column in the truth; its only one if None
    """

    truth: Path
    reference: Path
    regions: Sequence[Region]
    sample: str | None = None


def agreement_of(case: Case, calls: Mapping[str, Path], alignments: Path | None = None, limit: int = 30) -> Agreement:
    """Compare several callers' calls with the truth, and with each other.

    Parameters
    ----------
    calls : VCF of each caller by its name
    alignments : the patient's BAM or CRAM; with it the disagreements that are kept are drawn
    limit : disagreements to keep, worst first; all are counted

    Raises
    ------
    FedcallError
        If a file is missing or damaged or does not belong to the reference.
    """
    truth = read_variants(case.truth, case.reference, case.regions, case.sample)
    called = {name: read_variants(path, case.reference, case.regions) for name, path in calls.items()}
    if label_types(Path(case.truth)) == "snps":
        truth = [variant for variant in truth if variant.is_snp]
        called = {name: [one for one in own if one.is_snp] for name, own in called.items()}
    with ExitStack() as stack:
        bases = stack.enter_context(open_reference(case.reference))
        alleles = sort_alleles(truth, called, _fetch(bases))
        disputed = sorted(
            (allele for allele in alleles if 0 < len(allele.callers) < len(called)),
            key=lambda allele: -allele.severity,  # stable: equal ones stay in the order of the genome
        )
        reads = stack.enter_context(open_alignments(alignments, case.reference)) if alignments is not None else None
        shown = tuple(_disagreement(allele, reads, bases) for allele in disputed[:limit])
    return Agreement(
        callers=tuple(software_of(path, name) for name, path in calls.items()),
        patterns=count_patterns(alleles, tuple(calls)),
        disagreements_in_all=len(disputed),
        disagreements=shown,
    )


@dataclass(frozen=True)
class DisputedAllele:
    """One allele, and who has it.

    Attributes
    ----------
    variant : as the truth has it, or the first of the callers who make a false call
    callers : of a true variant those with the right genotype, in the order they were given
    """

    variant: Variant
    kind: AlleleKind
    callers: tuple[str, ...]
    severity: float


def sort_alleles(
    truth: Sequence[Variant], calls: Mapping[str, Sequence[Variant]], fetch: Fetch
) -> list[DisputedAllele]:
    """Return every true variant and every false call, each once, with the callers that have it.

    What is right or wrong is what `fedcall concordance` says: haplotypes are compared. A true allele with the wrong
    number of copies is a true variant that the caller does not have. False calls are one if allele and place agree.
    """
    having: list[list[str]] = [[] for _ in truth]
    false: dict[tuple[str, int, str, str], list[tuple[str, Variant]]] = defaultdict(list)
    qualities: dict[tuple[str, int, str, str], float] = {}
    for name, own in calls.items():
        true_verdicts, call_verdicts = match(truth, own, fetch)
        for index, verdict in enumerate(true_verdicts):
            if verdict is MatchLevel.GENOTYPE:
                having[index].append(name)
        for variant, verdict in zip(own, call_verdicts, strict=True):
            stated = variant.genotype_quality or 0.0
            qualities[variant.key] = max(stated, qualities.get(variant.key, 0.0))
            if verdict is MatchLevel.MISSING:
                false[variant.key].append((name, variant))

    def severity(variant: Variant) -> float:
        return min(float(qualities.get(variant.key, 0.0)), _MAXIMUM_SEVERITY)

    alleles = [
        DisputedAllele(variant, "true variant", tuple(names), severity(variant))
        for variant, names in zip(truth, having, strict=True)
    ]
    alleles += [
        DisputedAllele(found[0][1], "false call", tuple(name for name, _ in found), severity(found[0][1]))
        for found in false.values()
    ]
    contigs = {contig: rank for rank, contig in enumerate(dict.fromkeys(one.variant.contig for one in alleles))}
    return sorted(alleles, key=lambda one: (contigs[one.variant.contig], one.variant.start))


def count_patterns(alleles: Sequence[DisputedAllele], order: Sequence[str]) -> tuple[Pattern, ...]:
    """Count the alleles by type, by truth and by who has them; the most frequent first."""
    counts = Counter((allele.variant.kind, allele.kind, allele.callers) for allele in alleles)
    return _patterns(counts, order)


def add_patterns(agreements: Sequence[Agreement]) -> tuple[Pattern, ...]:
    """Return the patterns of several patients, added up."""
    counts: Counter[tuple[VariantKind, AlleleKind, tuple[str, ...]]] = Counter()
    order: dict[str, None] = {}
    for agreement in agreements:
        order |= dict.fromkeys(one.caller for one in agreement.callers)
        for pattern in agreement.patterns:
            counts[pattern.type, pattern.kind, pattern.callers] += pattern.count
    return _patterns(counts, tuple(order))


def read_agreement(path: Path) -> Agreement:
    """Read the agreement that `fedcall errors --agreement` wrote; errors name the file."""
    try:
        return Agreement.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; 'fedcall errors --agreement' makes it") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not an agreement of callers: {describe(error)}") from None


def _patterns(
    counts: Mapping[tuple[VariantKind, AlleleKind, tuple[str, ...]], int], order: Sequence[str]
) -> tuple[Pattern, ...]:
    ranks = {name: rank for rank, name in enumerate(order)}

    def place(key: tuple[VariantKind, AlleleKind, tuple[str, ...]]) -> tuple[object, ...]:
        kind, allele, callers = key
        return allele != "true variant", kind != "snps", -counts[key], [ranks[name] for name in callers]

    return tuple(
        Pattern(type=kind, kind=allele, callers=callers, count=counts[kind, allele, callers])
        for kind, allele, callers in sorted(counts, key=place)
    )


def _disagreement(allele: DisputedAllele, reads: pysam.AlignmentFile | None, bases: pysam.FastaFile) -> Disagreement:
    variant, is_true = allele.variant, allele.kind == "true variant"
    copies = (variant.dosage, 0) if is_true else (0, variant.dosage)
    return Disagreement(
        contig=variant.contig,
        position=variant.start + 1,
        ref=variant.ref,
        alt=variant.alt,
        kind=allele.kind,
        true_copies=copies[0],
        callers=allele.callers,
        severity=allele.severity,
        drawn=draw_error(variant, "missed" if is_true else "false call", copies, reads, bases) if reads else None,
    )


def _fetch(reference: pysam.FastaFile) -> Fetch:
    def fetch(contig: str, start: int, end: int) -> str:
        letters: str = reference.fetch(contig, start, end).upper()
        return letters

    return fetch
