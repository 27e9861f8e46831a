"""Decide from a patient's counts which qualities to lower.

Qualities are lowered where they are clearly and far too high, and never raised: reads without other mismatches nearby,
which are the ones counted, show fewer errors than all reads do, and to believe a base too little costs little.
"""

from collections.abc import Iterator

import numpy as np

from fedcall.genomics.base_qualities.read_places import CLASSES, HIGHEST, MATES, QUALITIES
from fedcall.genomics.base_qualities.table import DamageRow, QualityRow, RecalibrationTable
from fedcall.genomics.reads.record_fields import MIN_BASE_QUALITY
from fedcall.genomics.recalibration.counting import Counts

COUNTED_ARE_BETTER = 4.0
"""Phred by which the bases that are counted, of reads without another mismatch nearby, are better than all: so much
better than reported they were in the median of 18 people whose qualities are right."""
LEAST_OVERSTATED = 3.0
"""Phred by which reported qualities must exceed the measured ones, on average over the bases, at the least that the
counts allow (99 %): of people whose qualities are right, none of those looked at comes near it (docs/results.md)."""
SHRINKAGE = 30.0
"""Mismatches that the common deviation of all qualities counts for in the estimate of each."""
BELIEVED = 40
"""Nothing is believed beyond it (`likelihood.MAX_QUALITY`), so no deviation above it matters."""
LEAST_DAMAGE = 2.0
"""A kind of mismatch is damage if it is so many times as frequent as expected; machines alone make some kinds twice as
often as others."""
PLACE_SHRINKAGE = 2.0
"""Mismatches that the rate in the whole read counts for in the rate of each part of it."""
_NORMAL_99 = 2.326
_NORMAL_DAMAGE = 3.9
"""One-sided normal quantile of 0.05 divided by the 1,000 tests of one person."""
_TURNS = 8
_BASES = "ACGT"


def fit_table(counts: Counts, reads: str) -> RecalibrationTable:
    """Return the table of one patient; empty where the reads contradict nothing.

    Parameters
    ----------
    reads : digest of the reads that were counted, by which the table is known to be theirs
    """
    counted = int(counts.bases.sum())
    damage = np.zeros((MATES, CLASSES, 4, 4))
    spread = _overdispersion(counts)
    # What damage brings is no error of the machine, and what errors bring is no damage: in turns, until both stay.
    for _ in range(_TURNS):
        measured = _measured_errors(counts, damage)
        overstated, at_least = _overstated(counts, damage, measured, spread)
        lower = at_least >= LEAST_OVERSTATED
        errors = np.maximum(_REPORTED, measured) if lower else _REPORTED
        # What is left over when qualities are right, and would be called damage of all kinds, if they are not lowered.
        damage = _damage(counts, np.maximum(errors, measured), spread)
    rows = tuple(_quality_rows(counts, measured)) if lower else ()
    return RecalibrationTable(
        reads=reads,
        counted=counted,
        overstated=round(overstated, 2),
        overstated_at_least=round(at_least, 2),
        qualities=rows,
        damage=tuple(_damage_rows(counts, damage, errors)),
    )


_REPORTED = 10.0 ** (-np.arange(QUALITIES) / 10)


def _measured_errors(counts: Counts, damage: np.ndarray) -> np.ndarray:
    """Return the probability that a base is wrong by reported quality (64), shrunk towards the common deviation."""
    bases, wrong = _by_quality(counts, damage)
    expected = bases * _REPORTED
    common = (wrong.sum() + 1) / (expected.sum() + 1)
    ratio = (wrong + SHRINKAGE * common) / (expected + SHRINKAGE) * 10.0 ** (COUNTED_ARE_BETTER / 10)
    # No higher quality has more errors than a lower one.
    return _pooled(np.minimum(_REPORTED * ratio, 0.75), bases + 1.0)


def _by_quality(counts: Counts, damage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bases and errors, less what variants and damage bring, by reported quality."""
    damaged = np.einsum("qmcr,mcrb->q", counts.bases, damage)
    wrong = counts.mismatches.sum((1, 2, 3, 4)) - counts.variants.sum((1, 2, 3)) - damaged
    return counts.bases.sum((1, 2, 3)).astype(float), np.maximum(wrong, 0.0)


def _pooled(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the decreasing sequence nearest to `errors` in the weighted mean of squared logs (pool adjacent)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(np.log(errors), weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-1][0] > blocks[-2][0]:
            (last, heavy, many), (before, heavier, more) = blocks.pop(), blocks.pop()
            total = heavy + heavier
            blocks.append(((last * heavy + before * heavier) / total, total, many + more))
    pooled: np.ndarray = np.exp(np.concatenate([np.full(many, value) for value, _, many in blocks]))
    return pooled


def _overstated(counts: Counts, damage: np.ndarray, measured: np.ndarray, spread: float) -> tuple[float, float]:
    """Return mean Phred by which reported qualities exceed measured ones, as far as anybody believes them, and the
    lower bound of it."""
    bases, wrong = _by_quality(counts, damage)
    if bases.sum() == 0:
        return 0.0, 0.0

    def deviation(errors: np.ndarray) -> float:
        reported = np.minimum(np.arange(QUALITIES), BELIEVED)
        shown = np.minimum(-10 * np.log10(errors), BELIEVED)
        return float((bases * (reported - shown)).sum() / bases.sum())

    # The lower bound of the number of errors, for all qualities at once: they deviate together, or not at all.
    total = max(float(wrong.sum()), 1.0)
    share = max(0.0, 1.0 - _NORMAL_99 * np.sqrt(spread / total))
    return deviation(measured), deviation(np.maximum(measured * share, 1e-9))


def _overdispersion(counts: Counts) -> float:
    """Return how much more than independent errors those of pieces vary (variance over mean, at least 1)."""
    pieces = np.array(counts.pieces).reshape(-1, 3)
    pieces = pieces[pieces[:, 2] > 0]
    if len(pieces) < 3:
        return 2.0
    expected = pieces[:, 2] * pieces[:, 1].sum() / pieces[:, 2].sum()
    return max(1.0, float(((pieces[:, 1] - expected) ** 2 / np.maximum(expected, 1.0)).sum() / (len(pieces) - 1)))


def _damage(counts: Counts, errors: np.ndarray, spread: float) -> np.ndarray:
    """Return the rate of mismatches beyond errors and variants by mate, place, reference base and base shown."""
    expected = _expected(counts, errors)
    observed = counts.mismatches.sum(0).astype(float)
    bases = np.broadcast_to(counts.bases.sum(0)[..., None], observed.shape).astype(float)
    whole = _excess(observed.sum(1), expected.sum(1), bases.sum(1), spread)
    own = _excess(observed, expected, bases, spread)
    # Damage of the whole read has a rate in each part of it, shrunk towards the whole's where there is little to see.
    prior = np.broadcast_to(whole[:, None], observed.shape)
    seen = np.maximum(observed - expected, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = (seen + PLACE_SHRINKAGE) / (bases + PLACE_SHRINKAGE / prior)
    rates: np.ndarray = np.where(prior > 0, shrunk, own)
    return rates


def _excess(observed: np.ndarray, expected: np.ndarray, bases: np.ndarray, spread: float) -> np.ndarray:
    """Return the rate beyond expectation where it is certain and large, else 0."""
    least = observed - _NORMAL_DAMAGE * np.sqrt(spread * (observed + 1))
    found = (least > expected) & (observed > LEAST_DAMAGE * expected) & (bases > 0)
    return np.where(found, (observed - expected) / np.maximum(bases, 1), 0.0)


def _expected(counts: Counts, errors: np.ndarray) -> np.ndarray:
    """Return the mismatches that errors and variants bring, by mate, place, reference base and base shown."""
    wrong = np.einsum("qmcr,q->mcr", counts.bases, errors)[..., None] / 3
    # Two of three substitutions in people are transitions.
    kinds = np.where(np.abs(np.subtract.outer(np.arange(4), np.arange(4))) == 2, 2 / 3, 1 / 6)
    expected: np.ndarray = wrong + counts.variants.sum(0)[..., None] * kinds
    expected[..., np.arange(4), np.arange(4)] = 0.0
    return expected


def _quality_rows(counts: Counts, measured: np.ndarray) -> Iterator[QualityRow]:
    bases, wrong = counts.bases.sum((1, 2, 3)), counts.mismatches.sum((1, 2, 3, 4))
    for quality in range(MIN_BASE_QUALITY, HIGHEST + 1):
        shown = -10 * np.log10(measured[quality])
        yield QualityRow(
            reported=quality,
            bases=int(bases[quality]),
            mismatches=int(wrong[quality]),
            measured=round(float(shown), 2),
            used=int(np.clip(np.rint(shown), 2, quality)),
        )


def _damage_rows(counts: Counts, damage: np.ndarray, errors: np.ndarray) -> Iterator[DamageRow]:
    expected = _expected(counts, errors)
    for mate, place, true, shown in np.argwhere(damage > 0).tolist():
        yield DamageRow(
            kind=f"{_BASES[true]}>{_BASES[shown]}",
            mate=mate + 1,
            place=place,
            bases=int(counts.bases[:, mate, place, true].sum()),
            mismatches=int(counts.mismatches[:, mate, place, true, shown].sum()),
            expected=round(float(expected[mate, place, true, shown]), 2),
            rate=float(f"{damage[mate, place, true, shown]:.4g}"),
        )
