"""How often a base is misread: by quality, distance to the read's end, substitution and orientation; with gradients."""

import numpy as np

from fedcall.compiled import kernel
from fedcall.model.chemistry_belief_kernels import (
    ALT_BASE,
    ENDS,
    ORIENTATION,
    REF_BASE,
    SHARED,
    SHOWN_ALT,
    SHOWN_OTHER,
    SHOWN_REF,
    SUBSTITUTION,
    belief_gradient,
    end_bin,
    least_belief,
    logistic,
)

_DEPENDENCE = np.log(0.85 / 0.15)  # log odds of likelihood.DEPENDENCE
_LEAST_ERROR, _LARGEST_ERROR = 1e-6, 0.75


@kernel
def base_error(fragment: int, own: np.ndarray) -> float:
    """Return the probability that a base is misread or its read misplaced."""
    return float(
        min(max(np.exp(_end_of(fragment, own) - least_belief(fragment, own)[0]), _LEAST_ERROR), _LARGEST_ERROR)
    )


@kernel
def dependence(own: np.ndarray) -> float:
    """Return which share of the error before the next equal error says."""
    return logistic(_DEPENDENCE + own[SHARED])


@kernel
def of_substitution(row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int) -> float:
    change = _change(row, fragment, haplotype, fragment >> 2 & 1)
    if change < 0:
        return 0.0
    found = own[SUBSTITUTION + 12 * (end_bin(fragment) > 0) + change]
    orientation = (fragment >> 3 & 3) - 1
    if orientation != 0:
        found += own[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)]
    return float(found)


@kernel
def base_gradient(
    row: np.ndarray,
    fragment: int,
    own: np.ndarray,
    rank: int,
    of_ref: float,
    of_alt: float,
    of_other: float,
    chance: np.ndarray,
    found: np.ndarray,
) -> None:
    error, shown = chance[3], fragment & 3
    shared = dependence(own)
    power = shared**rank
    of_error = 0.0
    for haplotype in range(3):
        slope = of_ref if haplotype == SHOWN_REF else of_alt if haplotype == SHOWN_ALT else of_other
        if shown == haplotype or chance[haplotype] >= 1.0 - error:
            of_error -= slope
            continue
        slope *= chance[haplotype]
        of_error += slope * power / error
        log_error = np.log(error / 3.0) + of_substitution(row, fragment, own, haplotype)
        found[SHARED] += slope * log_error * rank * power * (1.0 - shared)
        change = _change(row, fragment, haplotype, fragment >> 2 & 1)
        if change >= 0:
            found[SUBSTITUTION + 12 * (end_bin(fragment) > 0) + change] += slope * power
            orientation = (fragment >> 3 & 3) - 1
            if orientation != 0:
                found[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)] += slope * power
    if error <= _LEAST_ERROR or error >= _LARGEST_ERROR:
        return
    slope = of_error * error
    found[ENDS + 4 * (fragment >> 2 & 1) + end_bin(fragment)] += slope
    belief_gradient(fragment, own, slope, found)


@kernel
def _end_of(fragment: int, own: np.ndarray) -> float:
    return float(own[ENDS + 4 * (fragment >> 2 & 1) + end_bin(fragment)])


@kernel
def _change(row: np.ndarray, fragment: int, haplotype: int, is_turned: int) -> int:
    """Return which of twelve substitutions makes of the haplotype's base the shown one, -1 if a base is not known.

    `is_turned`: as the other strand has it. The order is that of `examples.SUBSTITUTIONS`.
    """
    shown = fragment & 3
    if haplotype == SHOWN_OTHER or shown == SHOWN_OTHER:
        return -1
    source = row[REF_BASE] if haplotype == SHOWN_REF else row[ALT_BASE]
    target = row[REF_BASE] if shown == SHOWN_REF else row[ALT_BASE]
    if source == target:
        return -1
    if is_turned:
        source, target = 3 - source, 3 - target
    return int(3 * source + target - (target > source))
