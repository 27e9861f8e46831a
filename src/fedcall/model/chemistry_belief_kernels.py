"""What a read is believed, by its qualities, in nats; and how rows and constants of a chemistry lie in memory."""

import numpy as np

from fedcall.compiled import kernel

IS_INDEL, REF_BASE, ALT_BASE, KIND, INSERTED, PERIOD, TRACT, ENTANGLED, FRAGMENTS = range(9)
"""Columns of a row; from `FRAGMENTS` on come packed fragments, and -1 behind the last."""

# Where the constants of each tensor begin (`chemistry.TENSORS`, in this order).
BASE_LEVEL, BASE_QUALITY, MAPPING_LEVEL, MAPPING_QUALITY, LIMIT, DEPARTURES, CYCLE, STRAND = 0, 1, 9, 10, 14, 15, 20, 28
SUBSTITUTION, ORIENTATION, DAMAGE, FADING, SHARED, THIRD, HOMOPOLYMER = 29, 41, 53, 101, 103, 105, 106
REPEAT, MISSED, ANCHOR, TOGETHER, BALANCE, PRIOR, CONSTANTS = 126, 138, 140, 141, 142, 145, 155

PHRED = np.log(10.0) / 10.0  # nats in a unit of quality
MOST = 40  # likelihood.MAX_QUALITY
SHOWN_REF, SHOWN_ALT, SHOWN_OTHER, SHOWN_NEITHER = range(4)


@kernel
def least_belief(fragment: int, own: np.ndarray) -> tuple[float, int]:
    """Return the belief that bounds all others, in nats, and which it is: base, mapping, limit or departures."""
    base = belief(own, BASE_LEVEL, fragment >> 5 & 63, 5)
    mapping = belief(own, MAPPING_LEVEL, fragment >> 11 & 63, 10)
    limit = PHRED * MOST + own[LIMIT]
    least, which = base, 0
    if mapping < least:
        least, which = mapping, 1
    if limit < least:
        least, which = limit, 2
    if fragment & 3 != SHOWN_REF:
        departures = min(fragment >> 22 & 7, 4)
        departed = PHRED * departed_quality(departures) - own[DEPARTURES + departures]
        if departed < least:
            least, which = departed, 3
    return least, which


@kernel
def belief(own: np.ndarray, first: int, quality: int, step: int) -> float:
    """Return -log error at a quality: a level, and slopes that are never negative, so it never falls with quality."""
    found, left = -own[first], min(quality, MOST)
    slope = first + 1
    while left > 0:
        found += PHRED * min(left, step) * np.exp(own[slope])
        left -= step
        slope += 1
    return float(found)


@kernel
def departed_quality(departures: int) -> int:
    """Return the cap on the quality of a mismatch in a read with so many departures (likelihood._DEPARTED_QUALITY)."""
    if departures <= 0:
        return 40
    if departures == 1:
        return 25
    if departures == 2:
        return 15
    return 10 if departures == 3 else 6


@kernel
def belief_gradient(fragment: int, own: np.ndarray, slope: float, found: np.ndarray) -> None:
    """Add the gradient of a log error that falls as the least belief grows."""
    _, which = least_belief(fragment, own)
    if which == 2:
        found[LIMIT] -= slope
    elif which == 3:
        found[DEPARTURES + min(fragment >> 22 & 7, 4)] += slope
    else:
        first, left, step = BASE_LEVEL, min(fragment >> 5 & 63, MOST), 5
        if which == 1:
            first, left, step = MAPPING_LEVEL, min(fragment >> 11 & 63, MOST), 10
        slopes_gradient(own, first, left, step, slope, found)


@kernel
def slopes_gradient(own: np.ndarray, first: int, left: int, step: int, slope: float, found: np.ndarray) -> None:
    found[first] += slope
    place = first + 1
    while left > 0:
        found[place] -= slope * PHRED * min(left, step) * np.exp(own[place])
        left -= step
        place += 1


@kernel
def cycle_bin(fragment: int) -> int:
    """Return which constant of `CYCLE` is a base's: by the nearer end as sequenced (5', 3'), and the distance to it."""
    distance = fragment >> 17 & 31
    step = 0 if distance < 5 else 1 if distance < 10 else 2 if distance < 20 else 3
    return int(4 * (fragment >> 25 & 1) + step)


@kernel
def logistic(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))
