"""The groups of variants that accuracy is reported for, from zygosity to how rare an allele is."""

from collections.abc import Iterator, Mapping

from fedcall.genomics.concordance.haplotypes import Fetch
from fedcall.genomics.concordance.records import Variant

_FLANK = 30
CALIBRATION_BINS: tuple[tuple[int, int], ...] = tuple((low, low + 10) for low in range(0, 100, 10))
"""Bins of the genotype quality, low included, high not; the last holds everything above, too."""

_HOMOPOLYMER = ((1, 3), (4, 6), (7, 9), (10, None))
_INDEL_LENGTH = ((1, 1), (2, 5), (6, 15), (16, None))
_DEPTH = ((0, 4), (5, 9), (10, 19), (20, 29), (30, 49), (50, None))
_PERCENT = ((0, 9), (10, 19), (20, 29), (30, 69), (70, None))
_COPIES = ((2, 4), (5, None))
_QUALITY = ((0, 9), (10, 19), (20, 29), (30, 49), (50, None))
_FREQUENCY = ((0.0, "0-0.1 % (rare)"), (0.001, "0.1-1 %"), (0.01, "1-5 %"), (0.05, "5 %+"))

_Bins = tuple[tuple[int, int | None], ...]


CALLS_ONLY = ("depth", "quality", "allele fraction")
"""Strata that only calls have: precision can be told there, recall cannot."""
TRUTH_ONLY = ("allele count", "panel frequency")
"""Strata that only true variants have: recall can be told there, precision cannot."""

Allele = tuple[str, int, str, str]


def truth_strata(
    variant: Variant,
    fetch: Fetch,
    allele_counts: Mapping[Allele, int] | None = None,
    frequencies: Mapping[Allele, float] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield (stratum, value) of a true variant: the shared ones, and how rare its allele is.

    Parameters
    ----------
    allele_counts : copies of each allele in the truths of the held-out people
    frequencies : share of a public panel's chromosomes that carry each allele; alleles it does not cover are missing
    """
    yield from shared_strata(variant, fetch)
    if allele_counts is not None:
        copies = max(1, allele_counts.get(variant.key, 0))
        yield "allele count", "1 (rare)" if copies == 1 else _bin(copies, _COPIES)
    if frequencies is not None and variant.key in frequencies:
        yield "panel frequency", next(name for least, name in reversed(_FREQUENCY) if frequencies[variant.key] >= least)


def shared_strata(variant: Variant, fetch: Fetch) -> Iterator[tuple[str, str]]:
    """Yield (stratum, value) for what is known on both sides: zygosity, homopolymer run and indel length."""
    yield "zygosity", "het" if variant.dosage == 1 else "hom"
    yield "homopolymer", _bin(_run_length(variant, fetch), _HOMOPOLYMER)
    change = len(variant.alt) - len(variant.ref)
    if change:
        yield "insertion" if change > 0 else "deletion", _bin(abs(change), _INDEL_LENGTH)


def call_strata(variant: Variant, fetch: Fetch) -> Iterator[tuple[str, str]]:
    """Yield (stratum, value) of a call: the shared ones, and those of `CALLS_ONLY` that the file has."""
    yield from shared_strata(variant, fetch)
    if variant.depth is not None:
        yield "depth", _bin(variant.depth, _DEPTH)
    if variant.quality is not None:
        yield "quality", _bin(variant.quality, _QUALITY)
    if variant.allele_fraction is not None:
        yield "allele fraction", f"{_bin(100 * variant.allele_fraction, _PERCENT)} %"


def calibration_bin(genotype_quality: float) -> int:
    """Return the index of a genotype quality in `CALIBRATION_BINS`."""
    return max(0, min(int(genotype_quality // 10), len(CALIBRATION_BINS) - 1))


def _bin(value: float, bins: _Bins) -> str:
    for low, high in reversed(bins):
        if value >= low:
            return f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
    return f"<{bins[0][0]}"


def _run_length(variant: Variant, fetch: Fetch) -> int:
    """Return the length of the run of equal bases that holds the changed base, at most 61."""
    # An indel's own first base is the one before it.
    position = variant.start if variant.is_snp else variant.start + 1
    start = max(0, position - _FLANK)
    sequence = fetch(variant.contig, start, position + _FLANK + 1)
    centre = position - start
    if centre >= len(sequence):
        return 1
    base = sequence[centre]
    left, right = sequence[:centre], sequence[centre:]
    return len(left) - len(left.rstrip(base)) + len(right) - len(right.lstrip(base))
