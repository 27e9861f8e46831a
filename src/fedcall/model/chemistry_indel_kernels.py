"""How often a read shows an indel that its haplotype does not have, or misses one; with gradients."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.model.chemistry_belief_kernels import (
    ANCHOR,
    ENTANGLED,
    HOMOPOLYMER,
    INSERTED,
    LIMIT,
    MAPPING_LEVEL,
    MISSED,
    MOST,
    PERIOD,
    PHRED,
    REPEAT,
    SHARED,
    SHOWN_ALT,
    SHOWN_REF,
    TOGETHER,
    TRACT,
    belief,
    slopes_gradient,
)


@kernel
def gained_by_chance(row: np.ndarray, fragment: int, own: np.ndarray) -> float:
    return min(_made_by_repeat(row, own) + _misplaced(fragment, own), 0.4)


@kernel
def short_anchor(fragment: int, own: np.ndarray) -> float:
    """Return how often a read that ends close to a repeat misses its indel, or shows another."""
    return float(0.4 * max(1.0 - (fragment >> 17 & 31) / 10.0, 0.0) * np.exp(own[ANCHOR]))


@kernel
def false_indel(
    row: np.ndarray, shown: int, own: np.ndarray, rank: int, gained: float, anchor: float, missed: float
) -> float:
    """Return the probability of an indel that the haplotype does not have; later equal errors say less if shared."""
    chance = _false_alone(row, shown, own, gained, anchor)
    if rank == 0 or own[SHARED + 1] >= 0.0:
        return chance
    return float(max(chance, min(chance ** (np.exp(own[SHARED + 1]) ** rank), 1.0 - missed)))


@kernel
def indel_gradient(
    row: np.ndarray,
    fragment: int,
    own: np.ndarray,
    rank: int,
    of_ref: float,
    of_alt: float,
    of_other: float,
    found: np.ndarray,
) -> None:
    shown = fragment & 3
    gained, anchor = gained_by_chance(row, fragment, own), short_anchor(fragment, own)
    without = 0.03 * np.exp(own[MISSED + row[INSERTED]])
    missed = min(gained + without + anchor, 0.6)
    of_gained = of_anchor = of_missed = of_false = 0.0
    if shown == SHOWN_REF:
        of_gained -= of_ref
        of_missed += of_alt + of_other
    else:
        of_missed -= of_alt if shown == SHOWN_ALT else of_other
        of_false += of_ref + (of_other if shown == SHOWN_ALT else of_alt)
    if of_false != 0.0:
        alone, power = _false_alone(row, shown, own, gained, anchor), 1.0
        if rank > 0 and alone < 1.0 - missed:
            # At zero, where the learned dependence begins to count, its slope is that of the side where it does.
            power = np.exp(min(own[SHARED + 1], 0.0)) ** rank
            raised = alone**power
            if raised >= 1.0 - missed and raised > alone:
                of_missed -= of_false
                of_false = 0.0
            elif own[SHARED + 1] <= 0.0:
                found[SHARED + 1] += of_false * raised * np.log(alone) * rank * power
            of_false *= power * raised / alone
        if shown == SHOWN_ALT and row[ENTANGLED] and alone > gained:
            if alone < 0.6:
                found[TOGETHER] += of_false * alone
        else:
            of_gained += of_false if shown == SHOWN_ALT or alone < 0.6 else 0.0
            of_anchor += of_false if shown != SHOWN_ALT and alone < 0.6 else 0.0
    if missed < 0.6:
        found[MISSED + row[INSERTED]] += of_missed * without
        of_gained += of_missed
        of_anchor += of_missed
    found[ANCHOR] += of_anchor * anchor
    if gained < 0.4:
        found[_indel_place(row)] += of_gained * _made_by_repeat(row, own)
        misplaced = _misplaced(fragment, own)
        if misplaced > np.exp(-PHRED * MOST - own[LIMIT]):
            left = min(fragment >> 11 & 63, MOST)
            slopes_gradient(own, MAPPING_LEVEL, left, 10, of_gained * misplaced, found)
        else:
            found[LIMIT] -= of_gained * misplaced


@kernel
def _indel_place(row: np.ndarray) -> int:
    """Return the constant of the repeat that an indel stands in: by length, direction, and whether of one base."""
    repeats = row[TRACT] / max(row[PERIOD], 1)
    if row[PERIOD] == 1:
        length = max(int(repeats) - 1, 0)  # 0-1, 2, 3, … 9, 10 or more
        return int(HOMOPOLYMER + 10 * row[INSERTED] + min(length, 9))
    return int(REPEAT + 6 * row[INSERTED] + min(max(int(repeats) - 1, 0), 5))


@kernel
def _made_by_repeat(row: np.ndarray, own: np.ndarray) -> float:
    """Return the probability that a read of the reference haplotype shows some indel (`likelihood.indel_error`)."""
    repeats = row[TRACT] / max(row[PERIOD], 1)
    if row[PERIOD] == 1:
        phred = min(max(42.0 - 3.4 * max(repeats - 4.0, 0.0), 12.0), 42.0)
    else:
        phred = min(max(42.0 - 3.0 * max(repeats - 2.0, 0.0), 15.0), 42.0)
    return float(np.exp(own[_indel_place(row)] - PHRED * phred))


@kernel
def _misplaced(fragment: int, own: np.ndarray) -> float:
    """Return the probability that a read is misplaced."""
    least = min(belief(own, MAPPING_LEVEL, fragment >> 11 & 63, 10), PHRED * MOST + own[LIMIT])
    return float(np.exp(-least))


@kernel
def _false_alone(row: np.ndarray, shown: int, own: np.ndarray, gained: float, anchor: float) -> float:
    if shown == SHOWN_ALT:
        return max(gained, min(0.3 * np.exp(own[TOGETHER]), 0.6)) if row[ENTANGLED] else gained
    return min(gained + anchor, 0.6)
