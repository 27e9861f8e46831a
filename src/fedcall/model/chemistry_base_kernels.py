"""How often a base is misread, by quality, place in the read and substitution, or damaged before; with gradients.

Damage adds to errors: a cytosine that formalin turned into uracil is read as T with the best of qualities. It has a
rate for each substitution anywhere in the read, one at each end that fades with the distance to it (as in Briggs et al.
2007), and one by the strand of the fragment (oxidation while a library is made, Costello et al. 2013).
"""

import numpy as np

from fedcall.compiled import kernel
from fedcall.model.chemistry_belief_kernels import (
    ALT_BASE,
    CYCLE,
    DAMAGE,
    FADING,
    ORIENTATION,
    REF_BASE,
    SHARED,
    SHOWN_ALT,
    SHOWN_OTHER,
    SHOWN_REF,
    STRAND,
    SUBSTITUTION,
    belief_gradient,
    cycle_bin,
    least_belief,
    logistic,
)

_DEPENDENCE = np.log(0.85 / 0.15)  # log odds of likelihood.DEPENDENCE
_LEAST_ERROR, _LARGEST_ERROR = 1e-6, 0.75
_DAMAGE = 2e-4
"""Rate that a constant of 1 nat stands for, but for a factor of 1.7; each further nat is another factor of 2.7."""
_HALVES = 3.0
"""Bases in which damage at an end halves, untrained."""


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
def log_misread(row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int, error: float) -> float:
    """Return the log probability that damage or an error makes the shown base of the haplotype's."""
    log_error = np.log(error / 3.0)
    change = _change(row, fragment, haplotype, fragment >> 2 & 1)
    if change < 0:
        return float(log_error)
    log_error += _of_substitution(row, fragment, own, haplotype, change)
    damage = _damage(row, fragment, own, haplotype, change)
    if damage == 0.0:
        return float(log_error)
    raised = np.log1p(abs(damage) * np.exp(-log_error))
    return float(log_error + raised if damage > 0.0 else log_error - raised)


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
        found[SHARED] += slope * log_misread(row, fragment, own, haplotype, error) * rank * power * (1.0 - shared)
        slope *= power
        change = _change(row, fragment, haplotype, fragment >> 2 & 1)
        if change >= 0:
            alone = error / 3.0 * np.exp(_of_substitution(row, fragment, own, haplotype, change))
            damage = _damage(row, fragment, own, haplotype, change)
            share = alone / (alone + abs(damage))
            of_damage = slope / (alone + abs(damage))
            slope *= share if damage >= 0.0 else 2.0 - share
            found[SUBSTITUTION + change] += slope
            orientation = (fragment >> 3 & 3) - 1
            if orientation != 0:
                found[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)] += slope
            _damage_gradient(row, fragment, own, haplotype, change, of_damage, found)
        of_error += slope / error
    if error <= _LEAST_ERROR or error >= _LARGEST_ERROR:
        return
    slope = of_error * error
    found[CYCLE + cycle_bin(fragment)] += slope
    if fragment >> 2 & 1:
        found[STRAND] += slope
    belief_gradient(fragment, own, slope, found)


@kernel
def _end_of(fragment: int, own: np.ndarray) -> float:
    return float(own[CYCLE + cycle_bin(fragment)] + (own[STRAND] if fragment >> 2 & 1 else 0.0))


@kernel
def _of_substitution(row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int, change: int) -> float:
    found = own[SUBSTITUTION + change]
    orientation = (fragment >> 3 & 3) - 1
    if orientation != 0:
        found += own[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)]
    return float(found)


@kernel
def _rate(constant: float) -> float:
    """Return a rate of damage, of either sign: one below zero says that errors are fewer than qualities say."""
    return float(_DAMAGE * np.expm1(constant) if constant >= 0.0 else -_DAMAGE * np.expm1(-constant))


@kernel
def _faded(fragment: int, own: np.ndarray) -> float:
    """Return the share of the damage at a read's nearer end that reaches the base."""
    halves = _HALVES * np.exp(own[FADING + (fragment >> 25 & 1)])
    return float(0.5 ** ((fragment >> 17 & 31) / halves))


@kernel
def _damage(row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int, change: int) -> float:
    """Return the rate of damage that a fragment's base of a substitution has, all kinds of it together."""
    found = _rate(own[DAMAGE + change])
    at_end = own[DAMAGE + 12 * (1 + (fragment >> 25 & 1)) + change]
    if at_end != 0.0:
        found += _rate(at_end) * _faded(fragment, own)
    orientation = (fragment >> 3 & 3) - 1
    if orientation != 0:
        found += _rate(own[DAMAGE + 36 + _change(row, fragment, haplotype, orientation < 0)])
    return found


@kernel
def _damage_gradient(
    row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int, change: int, slope: float, found: np.ndarray
) -> None:
    """Add the gradient of what grows by `slope` with the rate of damage."""
    found[DAMAGE + change] += slope * _DAMAGE * np.exp(abs(own[DAMAGE + change]))
    three = fragment >> 25 & 1
    place, faded = DAMAGE + 12 * (1 + three) + change, _faded(fragment, own)
    found[place] += slope * faded * _DAMAGE * np.exp(abs(own[place]))
    fading = np.log(2.0) * (fragment >> 17 & 31) / (_HALVES * np.exp(own[FADING + three]))
    found[FADING + three] += slope * _rate(own[place]) * faded * fading
    orientation = (fragment >> 3 & 3) - 1
    if orientation != 0:
        place = DAMAGE + 36 + _change(row, fragment, haplotype, orientation < 0)
        found[place] += slope * _DAMAGE * np.exp(abs(own[place]))


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
