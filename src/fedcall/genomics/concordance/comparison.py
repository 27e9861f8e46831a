"""Compare calls with truth by genotype, inside confident regions.

Both files are normalised; variants match by allele and copies, and what is left by the local haplotypes it spells.
"""

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pysam
from pydantic import Field, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.figures import Figures, Tally
from fedcall.genomics.concordance.haplotypes import Fetch, MatchLevel, match
from fedcall.genomics.concordance.records import Region, Variant, VariantKind, read_and_count
from fedcall.genomics.concordance.strata import CALIBRATION_BINS, calibration_bin, call_strata, truth_strata
from fedcall.genomics.reference import open_reference
from fedcall.genomics.truth.allele_counts import Allele, read_allele_counts

BLOCKS = 20
"""The regions are cut into this many pieces of equal length, the units that intervals resample."""

SCHEMA: Literal["fedcall.concordance/1"] = "fedcall.concordance/1"


@dataclass(frozen=True)
class Rarity:
    """What says which variants are rare: among held-out people, in public, both, or nothing.

    Attributes
    ----------
    allele_counts : table of `fedcall allele-counts`
    panel : VCF of public allele frequencies
    """

    allele_counts: Path | None = None
    panel: Path | None = None


_UNKNOWN = Rarity()


class Stratum(Document):
    """Figures of a group of variants; groups that only calls or only true variants have are empty on the other side."""

    type: VariantKind
    stratum: str
    value: str
    figures: Figures


class Block(Document):
    """Counts in one piece of the regions; `indels` is None where the truth has no indel labels."""

    snps: Tally
    indels: Tally | None


class CalibrationBin(Document):
    """Calls whose genotype quality lies in [low, high), and how many of their genotypes are wrong."""

    low: int
    high: int
    calls: int
    errors: int


class Concordance(Document):
    """Calls against truth, for one patient or pooled over several.

    Attributes
    ----------
    patients : int
    label_types : "all" or "snps"
        "snps" if the truth holds no indels: calls of indels are then left out, and figures of indels are None.
    regions_bases : int
        Length of the regions, summed over patients.
    regions_digest : str
        SHA-256 of the regions: patients with equal digests have blocks at equal places.
    panel : str or None
        SHA-256 of the panel of allele frequencies that one patient's calls were made with; None: no panel, or pooled.
    left_out : dict of str to int
        Alleles of one patient's files that could not be compared, by file and reason.
    """

    schema_version: Literal["fedcall.concordance/1"] = SCHEMA
    patients: int
    label_types: Literal["all", "snps"]
    regions_bases: int
    regions_digest: str
    panel: str | None = None
    left_out: dict[str, int] = Field(default_factory=dict)
    snps: Figures
    indels: Figures | None
    all: Figures
    strata: list[Stratum]
    blocks: list[Block]
    calibration: list[CalibrationBin]


def compare(
    truth: Path,
    calls: Path,
    regions: Path,
    reference: Path,
    sample: str | None = None,
    rarity: Rarity = _UNKNOWN,
    within: Sequence[str] = (),
    outside: Sequence[Path] = (),
) -> Concordance:
    """Compare the calls of one patient with the truth.

    Parameters
    ----------
    truth : VCF with genotypes; `sample` names the patient's column, which may be left out if there is only one
    calls : VCF with one genotype column, whatever its name
    regions : BED of the confident regions; only variants inside count
    reference : indexed FASTA
    rarity : what says which variants are rare
    within, outside : count only within these regions (samtools' notation) or outside of these BED files; where nothing
        is left, all counts are 0

    Raises
    ------
    FedcallError
        If a file is missing or damaged, lacks a contig of the regions or the sample, or its REF differs from the
        reference.
    """
    from fedcall.genomics.calling.calls import panel_digest
    from fedcall.genomics.regions import read_regions
    from fedcall.genomics.truth.labels import label_types
    from fedcall.genomics.unseen import unseen_regions

    only_unseen = within or outside
    intervals = unseen_regions(regions, reference, within, outside) if only_unseen else read_regions(regions, reference)
    nothing: tuple[list[Variant], Counter[str]] = ([], Counter())
    true_variants, odd_truth = read_and_count(truth, reference, intervals, sample) if intervals else nothing
    called_variants, odd_calls = read_and_count(calls, reference, intervals) if intervals else nothing
    left_out = {f"truth: {reason}": count for reason, count in sorted(odd_truth.items())}
    left_out |= {f"calls: {reason}": count for reason, count in sorted(odd_calls.items())}
    labelled = label_types(Path(truth))
    counts = None if rarity.allele_counts is None else read_allele_counts(rarity.allele_counts)
    frequencies = None if rarity.panel is None else _frequencies(rarity.panel, reference, true_variants)
    with open_reference(Path(reference)) as bases:
        found = compare_variants(
            true_variants, called_variants, intervals, _fetch(bases), labelled, counts, frequencies
        )
    return found.model_copy(update={"panel": panel_digest(calls), "left_out": left_out})


def compare_variants(
    truth: Sequence[Variant],
    calls: Sequence[Variant],
    regions: Sequence[Region],
    fetch: Fetch,
    label_types: Literal["all", "snps"] = "all",
    allele_counts: Mapping[Allele, int] | None = None,
    frequencies: Mapping[Allele, float] | None = None,
) -> Concordance:
    """Compare normalised variants; see `compare` and `truth_strata`."""
    if label_types == "snps":
        truth = [variant for variant in truth if variant.is_snp]
        calls = [variant for variant in calls if variant.is_snp]
    true_verdicts, call_verdicts = match(truth, calls, fetch)
    place = _Blocks(regions)
    counts: dict[tuple[VariantKind, str, str], _Counts] = defaultdict(_Counts)
    for variant, verdict in zip(truth, true_verdicts, strict=True):
        groups = truth_strata(variant, fetch, allele_counts, frequencies)
        for stratum, value in ((_BLOCK, str(place(variant))), *groups):
            counts[variant.kind, stratum, value].add_truth(verdict)
    calibration = [[0, 0] for _ in CALIBRATION_BINS]
    for variant, verdict in zip(calls, call_verdicts, strict=True):
        for stratum, value in ((_BLOCK, str(place(variant))), *call_strata(variant, fetch)):
            counts[variant.kind, stratum, value].add_call(verdict)
        if variant.genotype_quality is not None:
            tallied = calibration[calibration_bin(variant.genotype_quality)]
            tallied[0] += 1
            tallied[1] += verdict is not MatchLevel.GENOTYPE
    tallies = {key: tally.tally for key, tally in counts.items()}
    blocks = [
        Block(
            snps=tallies.get(("snps", _BLOCK, str(index)), Tally()),
            indels=tallies.get(("indels", _BLOCK, str(index)), Tally()) if label_types == "all" else None,
        )
        for index in range(BLOCKS)
    ]
    return assemble(
        patients=1,
        regions_bases=place.bases,
        regions_digest=hashlib.sha256(repr([tuple(region) for region in regions]).encode()).hexdigest(),
        blocks=blocks,
        strata={key: tally for key, tally in tallies.items() if key[1] != _BLOCK},
        calibration=[(number, errors) for number, errors in calibration],
    )


def assemble(
    patients: int,
    regions_bases: int,
    regions_digest: str,
    blocks: Sequence[Block],
    strata: Mapping[tuple[VariantKind, str, str], Tally],
    calibration: Sequence[tuple[int, int]],
) -> Concordance:
    """Build a concordance whose figures are computed from its blocks.

    Parameters
    ----------
    strata : tallies by (type, stratum, value)
    calibration : (calls, errors) per bin of `CALIBRATION_BINS`
    """
    snps = Tally.total(block.snps for block in blocks)
    labelled = [block.indels for block in blocks if block.indels is not None]
    indels = Tally.total(labelled)
    return Concordance(
        patients=patients,
        label_types="all" if labelled else "snps",
        regions_bases=regions_bases,
        regions_digest=regions_digest,
        snps=Figures.of(snps),
        indels=Figures.of(indels) if labelled else None,
        all=Figures.of(snps + indels),
        strata=[
            Stratum(type=kind, stratum=stratum, value=value, figures=Figures.of(strata[kind, stratum, value]))
            for kind, stratum, value in sorted(strata)
        ],
        blocks=list(blocks),
        calibration=[
            CalibrationBin(low=low, high=high, calls=number, errors=errors)
            for (low, high), (number, errors) in zip(CALIBRATION_BINS, calibration, strict=True)
        ],
    )


def read_concordance(path: Path) -> Concordance:
    """Read a concordance from the JSON that `fedcall concordance --json` writes; errors name the file."""
    try:
        return Concordance.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; `fedcall concordance` makes it") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not a concordance: {describe(error)}") from None


_BLOCK = "block"


class _Counts:
    """A tally under construction."""

    def __init__(self) -> None:
        self.truth = [0, 0, 0]
        self.calls = [0, 0, 0]

    def add_truth(self, verdict: MatchLevel) -> None:
        self.truth[verdict] += 1

    def add_call(self, verdict: MatchLevel) -> None:
        self.calls[verdict] += 1

    @property
    def tally(self) -> Tally:
        return Tally(
            truth=sum(self.truth),
            tp=self.truth[MatchLevel.GENOTYPE],
            allele_tp=self.truth[MatchLevel.GENOTYPE] + self.truth[MatchLevel.ALLELE],
            calls=sum(self.calls),
            tp_calls=self.calls[MatchLevel.GENOTYPE],
            allele_tp_calls=self.calls[MatchLevel.GENOTYPE] + self.calls[MatchLevel.ALLELE],
        )


class _Blocks:
    """Which of `BLOCKS` pieces of equal length a variant lies in."""

    def __init__(self, regions: Sequence[Region]) -> None:
        self.offsets: dict[str, list[tuple[int, int]]] = {}
        self.bases = 0
        for contig, start, end in regions:
            self.offsets.setdefault(contig, []).append((start, self.bases - start))
            self.bases += end - start

    def __call__(self, variant: Variant) -> int:
        intervals = self.offsets[variant.contig]
        _, shift = intervals[bisect_right(intervals, (variant.start + 1,)) - 1]
        return (variant.start + shift) * BLOCKS // self.bases


def _frequencies(panel: Path, reference: Path, truth: Sequence[Variant]) -> dict[Allele, float]:
    """Return the share of the panel's chromosomes that carry each true allele, where the panel covers the place."""
    from fedcall.genomics.alleles import Allele as Spelled
    from fedcall.genomics.calling.panel import look_up_alleles, open_panel

    spelled = [(variant.contig, Spelled(variant.start, variant.ref, variant.alt)) for variant in truth]
    counts = look_up_alleles(open_panel(panel, reference), spelled)
    return {
        variant.key: float(copies / chromosomes)
        for variant, copies, chromosomes in zip(truth, counts.copies, counts.chromosomes, strict=True)
        if chromosomes
    }


def _fetch(reference: pysam.FastaFile) -> Fetch:
    def fetch(contig: str, start: int, end: int) -> str:
        letters: str = reference.fetch(contig, start, end).upper()
        return letters

    return fetch
