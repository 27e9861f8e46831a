"""The likelihood of `genomics.pileup.likelihood` with constants that can be learned, and its gradient.

A row is computed from its own fragments alone and in their order, so its values depend on no other row and on no batch.
Nothing in a row tells where in the genome it lies. With constants of zero this is the likelihood that examples hold, but
for rounding and for values that packing caps.
"""

import numpy as np

from fedcall.compiled import kernel

IS_INDEL, REF_BASE, ALT_BASE, KIND, INSERTED, PERIOD, TRACT, ENTANGLED, FRAGMENTS = range(9)
"""Columns of a row; from `FRAGMENTS` on come packed fragments, and -1 behind the last."""

# Where the constants of each tensor begin (`chemistry.TENSORS`, in this order).
BASE_QUALITY, MAPPING_QUALITY, LIMIT, DEPARTURES, ENDS = 0, 9, 14, 15, 20
SUBSTITUTION, ORIENTATION, SHARED, THIRD, HOMOPOLYMER = 28, 52, 64, 66, 67
REPEAT, MISSED, ANCHOR, TOGETHER, BALANCE, PRIOR, CONSTANTS = 87, 99, 101, 102, 103, 106, 116

_PHRED = np.log(10.0) / 10.0  # nats in a unit of quality
_MOST = 40  # likelihood.MAX_QUALITY
_DEPENDENCE = np.log(0.85 / 0.15)  # log odds of likelihood.DEPENDENCE
_THIRD_ALLELE = np.log(1e-3)
_LEAST_ERROR, _LARGEST_ERROR = 1e-6, 0.75
_REF, _ALT, _OTHER, _NEITHER = range(4)


@kernel
def likelihoods(rows: np.ndarray, constants: np.ndarray, out: np.ndarray) -> None:
    """Write log P(fragments | 0, 1, 2 copies) + the change of the log prior of each row, up to a number per row.

    Parameters
    ----------
    rows : int32, shape (b, FRAGMENTS + most fragments)
    constants : float64, shape (units, CONSTANTS); each unit's are those of its share of the rows, in order
    out : float64, shape (b, 3), written
    """
    per_unit = len(rows) // len(constants)
    chance, totals = np.empty(4), np.empty(6)
    ranks, seen = np.empty(rows.shape[1], np.int64), np.empty((8, _MOST + 2), np.int64)
    for row in range(len(rows)):
        own = constants[row // per_unit]
        _rank(rows[row], ranks, seen)
        _totals(rows[row], own, ranks, chance, totals)
        third = _THIRD_ALLELE + own[THIRD]
        kind = PRIOR + 2 * rows[row, KIND]
        out[row, 0] = _log_sum(totals[0], totals[1] + third, totals[2] + third)
        out[row, 1] = _log_sum(totals[3], totals[4] + third, -np.inf) + own[kind]
        out[row, 2] = totals[5] + own[kind + 1]


@kernel
def gradients(rows: np.ndarray, constants: np.ndarray, backprops: np.ndarray, out: np.ndarray) -> None:
    """Add to `out`, float64, shape (units, CONSTANTS), the gradient of the sum of `backprops` times `likelihoods`.

    A row whose backprops are all zero is left out.
    """
    units = len(out)
    per_unit, per_constants = len(rows) // units, len(rows) // len(constants)
    chance, totals, shares = np.empty(4), np.empty(6), np.empty(6)
    ranks, seen = np.empty(rows.shape[1], np.int64), np.empty((8, _MOST + 2), np.int64)
    for row in range(len(rows)):
        if backprops[row, 0] == 0.0 and backprops[row, 1] == 0.0 and backprops[row, 2] == 0.0:
            continue
        own, found = constants[row // per_constants], out[row // per_unit]
        _rank(rows[row], ranks, seen)
        _totals(rows[row], own, ranks, chance, totals)
        third = _THIRD_ALLELE + own[THIRD]
        none = _log_sum(totals[0], totals[1] + third, totals[2] + third)
        one = _log_sum(totals[3], totals[4] + third, -np.inf)
        shares[0] = backprops[row, 0] * np.exp(totals[0] - none)
        shares[1] = backprops[row, 0] * np.exp(totals[1] + third - none)
        shares[2] = backprops[row, 0] * np.exp(totals[2] + third - none)
        shares[3] = backprops[row, 1] * np.exp(totals[3] - one)
        shares[4] = backprops[row, 1] * np.exp(totals[4] + third - one)
        shares[5] = backprops[row, 2]
        found[THIRD] += shares[1] + shares[2] + shares[4]
        kind = PRIOR + 2 * rows[row, KIND]
        found[kind] += backprops[row, 1]
        found[kind + 1] += backprops[row, 2]
        balance = BALANCE + rows[row, IS_INDEL] * (1 + rows[row, INSERTED])
        share = _logistic(own[balance])
        for k in range(FRAGMENTS, rows.shape[1]):
            fragment = rows[row, k]
            if fragment < 0:
                break
            if fragment & 3 == _NEITHER:
                continue
            _chances(rows[row], fragment, own, ranks[k], chance)
            p, a, o = chance[0], chance[1], chance[2]
            mixed = (1.0 - share) * p + share * a
            found[balance] += shares[3] * (a - p) / mixed * share * (1.0 - share)
            of_ref = shares[0] / p + shares[1] / (p + o) + shares[3] * (1.0 - share) / mixed
            of_alt = shares[3] * share / mixed + shares[4] / (a + o) + shares[5] / a
            of_other = shares[1] / (p + o) + shares[2] / o + shares[4] / (a + o)
            if rows[row, IS_INDEL]:
                _indel_gradient(rows[row], fragment, own, ranks[k], of_ref, of_alt, of_other, found)
            else:
                _base_gradient(rows[row], fragment, own, ranks[k], of_ref, of_alt, of_other, chance, found)


@kernel
def _totals(row: np.ndarray, own: np.ndarray, ranks: np.ndarray, chance: np.ndarray, totals: np.ndarray) -> None:
    """Write log P(fragments | pair of haplotypes) of the pairs RR, RO, OO, RA, AO, AA."""
    totals[:] = 0.0
    share = _logistic(own[BALANCE + row[IS_INDEL] * (1 + row[INSERTED])])
    for k in range(FRAGMENTS, len(row)):
        if row[k] < 0:
            break
        if row[k] & 3 == _NEITHER:
            continue
        _chances(row, row[k], own, ranks[k], chance)
        totals[0] += np.log(chance[0])
        totals[1] += np.log(0.5 * (chance[0] + chance[2]))
        totals[2] += np.log(chance[2])
        totals[3] += np.log((1.0 - share) * chance[0] + share * chance[1])
        totals[4] += np.log(0.5 * (chance[1] + chance[2]))
        totals[5] += np.log(chance[1])


@kernel
def _rank(row: np.ndarray, ranks: np.ndarray, seen: np.ndarray) -> None:
    """Write how many better fragments of the same strand show the same; of an indel, how many earlier ones do."""
    seen[:] = 0
    is_indel = row[IS_INDEL]
    for k in range(FRAGMENTS, len(row)):
        if row[k] < 0:
            break
        if not is_indel:
            seen[row[k] & 7, _believed(row[k]) + 1] += 1
    for group in range(8):
        better = 0
        for place in range(_MOST + 1, 0, -1):
            equal = seen[group, place]
            seen[group, place] = better
            better += equal
    for k in range(FRAGMENTS, len(row)):
        if row[k] < 0:
            break
        group, place = row[k] & 7, 0 if is_indel else _believed(row[k]) + 1
        ranks[k] = seen[group, place]
        seen[group, place] += 1


@kernel
def _believed(fragment: int) -> int:
    """Return the quality by which the untrained likelihood orders fragments."""
    quality = min(fragment >> 5 & 63, fragment >> 11 & 63, _MOST)
    return quality if fragment & 3 == _REF else min(quality, _departed(fragment >> 22 & 7))


@kernel
def _departed(departures: int) -> int:
    """Return the cap on the quality of a mismatch in a read with so many departures (likelihood._DEPARTED_QUALITY)."""
    if departures <= 0:
        return 40
    if departures == 1:
        return 25
    if departures == 2:
        return 15
    return 10 if departures == 3 else 6


@kernel
def _chances(row: np.ndarray, fragment: int, own: np.ndarray, rank: int, chance: np.ndarray) -> None:
    """Write P(what the fragment shows | haplotype REF, ALT, OTHER), and for bases the error behind them."""
    shown = fragment & 3
    if row[IS_INDEL]:
        gained, anchor = _gained(row, fragment, own), _anchor(fragment, own)
        missed = min(gained + 0.03 * np.exp(own[MISSED + row[INSERTED]]) + anchor, 0.6)
        chance[0] = 1.0 - gained if shown == _REF else _false_indel(row, shown, own, rank, gained, anchor, missed)
        for haplotype in range(1, 3):
            if shown == haplotype:
                chance[haplotype] = 1.0 - missed
            elif shown == _REF:
                chance[haplotype] = missed
            else:
                chance[haplotype] = _false_indel(row, shown, own, rank, gained, anchor, missed)
        return
    error = min(max(np.exp(_log_error(fragment, own)), _LEAST_ERROR), _LARGEST_ERROR)
    power = _logistic(_DEPENDENCE + own[SHARED]) ** rank
    chance[3] = error
    for haplotype in range(3):
        if shown == haplotype:
            chance[haplotype] = 1.0 - error
        else:
            log_error = np.log(error / 3.0) + _of_substitution(row, fragment, own, haplotype)
            chance[haplotype] = min(np.exp(power * log_error), 1.0 - error)


@kernel
def _log_error(fragment: int, own: np.ndarray) -> float:
    """Return the log probability that a base is misread or its read misplaced, before limits."""
    return _end_of(fragment, own) - _least_belief(fragment, own)[0]


@kernel
def _least_belief(fragment: int, own: np.ndarray) -> tuple[float, int]:
    """Return the belief that bounds all others, in nats, and which it is: base, mapping, limit or departures."""
    base = _belief(own, BASE_QUALITY, fragment >> 5 & 63, 5)
    mapping = _belief(own, MAPPING_QUALITY, fragment >> 11 & 63, 10)
    limit = _PHRED * _MOST + own[LIMIT]
    least, which = base, 0
    if mapping < least:
        least, which = mapping, 1
    if limit < least:
        least, which = limit, 2
    if fragment & 3 != _REF:
        departures = min(fragment >> 22 & 7, 4)
        departed = _PHRED * _departed(departures) - own[DEPARTURES + departures]
        if departed < least:
            least, which = departed, 3
    return least, which


@kernel
def _belief(own: np.ndarray, first: int, quality: int, step: int) -> float:
    """Return -log error at a quality: a level, and slopes that are never negative, so it never falls with quality."""
    belief, left = -own[first], min(quality, _MOST)
    slope = first + 1
    while left > 0:
        belief += _PHRED * min(left, step) * np.exp(own[slope])
        left -= step
        slope += 1
    return belief


@kernel
def _end_bin(fragment: int) -> int:
    distance = fragment >> 17 & 31
    return 0 if distance < 5 else 1 if distance < 10 else 2 if distance < 20 else 3


@kernel
def _end_of(fragment: int, own: np.ndarray) -> float:
    return own[ENDS + 4 * (fragment >> 2 & 1) + _end_bin(fragment)]


@kernel
def _change(row: np.ndarray, fragment: int, haplotype: int, is_turned: int) -> int:
    """Return which of twelve substitutions makes of the haplotype's base the shown one, -1 if a base is not known.

    `is_turned`: as the other strand has it. The order is that of `examples.SUBSTITUTIONS`.
    """
    shown = fragment & 3
    if haplotype == _OTHER or shown == _OTHER:
        return -1
    source = row[REF_BASE] if haplotype == _REF else row[ALT_BASE]
    target = row[REF_BASE] if shown == _REF else row[ALT_BASE]
    if source == target:
        return -1
    if is_turned:
        source, target = 3 - source, 3 - target
    return 3 * source + target - (target > source)


@kernel
def _of_substitution(row: np.ndarray, fragment: int, own: np.ndarray, haplotype: int) -> float:
    change = _change(row, fragment, haplotype, fragment >> 2 & 1)
    if change < 0:
        return 0.0
    found = own[SUBSTITUTION + 12 * (_end_bin(fragment) > 0) + change]
    orientation = (fragment >> 3 & 3) - 1
    if orientation != 0:
        found += own[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)]
    return found


@kernel
def _base_gradient(
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
    dependence = _logistic(_DEPENDENCE + own[SHARED])
    power = dependence**rank
    of_error = 0.0
    for haplotype in range(3):
        slope = of_ref if haplotype == _REF else of_alt if haplotype == _ALT else of_other
        if shown == haplotype or chance[haplotype] >= 1.0 - error:
            of_error -= slope
            continue
        slope *= chance[haplotype]
        of_error += slope * power / error
        log_error = np.log(error / 3.0) + _of_substitution(row, fragment, own, haplotype)
        found[SHARED] += slope * log_error * rank * power * (1.0 - dependence)
        change = _change(row, fragment, haplotype, fragment >> 2 & 1)
        if change >= 0:
            found[SUBSTITUTION + 12 * (_end_bin(fragment) > 0) + change] += slope * power
            orientation = (fragment >> 3 & 3) - 1
            if orientation != 0:
                found[ORIENTATION + _change(row, fragment, haplotype, orientation < 0)] += slope * power
    if error <= _LEAST_ERROR or error >= _LARGEST_ERROR:
        return
    slope = of_error * error
    found[ENDS + 4 * (fragment >> 2 & 1) + _end_bin(fragment)] += slope
    _belief_gradient(fragment, own, slope, found)


@kernel
def _belief_gradient(fragment: int, own: np.ndarray, slope: float, found: np.ndarray) -> None:
    """Add the gradient of a log error that falls as the least belief grows."""
    _, which = _least_belief(fragment, own)
    if which == 2:
        found[LIMIT] -= slope
    elif which == 3:
        found[DEPARTURES + min(fragment >> 22 & 7, 4)] += slope
    else:
        first, left, step = BASE_QUALITY, min(fragment >> 5 & 63, _MOST), 5
        if which == 1:
            first, left, step = MAPPING_QUALITY, min(fragment >> 11 & 63, _MOST), 10
        _slopes_gradient(own, first, left, step, slope, found)


@kernel
def _slopes_gradient(own: np.ndarray, first: int, left: int, step: int, slope: float, found: np.ndarray) -> None:
    found[first] += slope
    place = first + 1
    while left > 0:
        found[place] -= slope * _PHRED * min(left, step) * np.exp(own[place])
        left -= step
        place += 1


@kernel
def _indel_place(row: np.ndarray) -> int:
    """Return the constant of the repeat that an indel stands in: by length, direction, and whether of one base."""
    repeats = row[TRACT] / max(row[PERIOD], 1)
    if row[PERIOD] == 1:
        length = max(int(repeats) - 1, 0)  # 0-1, 2, 3, … 9, 10 or more
        return HOMOPOLYMER + 10 * row[INSERTED] + min(length, 9)
    return REPEAT + 6 * row[INSERTED] + min(max(int(repeats) - 1, 0), 5)


@kernel
def _made_by_repeat(row: np.ndarray, own: np.ndarray) -> float:
    """Return the probability that a read of the reference haplotype shows some indel (`likelihood.indel_error`)."""
    repeats = row[TRACT] / max(row[PERIOD], 1)
    if row[PERIOD] == 1:
        phred = min(max(42.0 - 3.4 * max(repeats - 4.0, 0.0), 12.0), 42.0)
    else:
        phred = min(max(42.0 - 3.0 * max(repeats - 2.0, 0.0), 15.0), 42.0)
    return np.exp(own[_indel_place(row)] - _PHRED * phred)


@kernel
def _misplaced(fragment: int, own: np.ndarray) -> float:
    """Return the probability that a read is misplaced."""
    belief = min(_belief(own, MAPPING_QUALITY, fragment >> 11 & 63, 10), _PHRED * _MOST + own[LIMIT])
    return np.exp(-belief)


@kernel
def _gained(row: np.ndarray, fragment: int, own: np.ndarray) -> float:
    return min(_made_by_repeat(row, own) + _misplaced(fragment, own), 0.4)


@kernel
def _anchor(fragment: int, own: np.ndarray) -> float:
    """Return how often a read that ends close to a repeat misses its indel, or shows another."""
    return 0.4 * max(1.0 - (fragment >> 17 & 31) / 10.0, 0.0) * np.exp(own[ANCHOR])


@kernel
def _false_indel(
    row: np.ndarray, shown: int, own: np.ndarray, rank: int, gained: float, anchor: float, missed: float
) -> float:
    """Return the probability of an indel that the haplotype does not have; later equal errors say less if shared."""
    chance = _false_alone(row, shown, own, gained, anchor)
    if rank == 0 or own[SHARED + 1] >= 0.0:
        return chance
    return max(chance, min(chance ** (np.exp(own[SHARED + 1]) ** rank), 1.0 - missed))


@kernel
def _false_alone(row: np.ndarray, shown: int, own: np.ndarray, gained: float, anchor: float) -> float:
    if shown == _ALT:
        return max(gained, min(0.3 * np.exp(own[TOGETHER]), 0.6)) if row[ENTANGLED] else gained
    return min(gained + anchor, 0.6)


@kernel
def _indel_gradient(
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
    gained, anchor = _gained(row, fragment, own), _anchor(fragment, own)
    without = 0.03 * np.exp(own[MISSED + row[INSERTED]])
    missed = min(gained + without + anchor, 0.6)
    of_gained = of_anchor = of_missed = of_false = 0.0
    if shown == _REF:
        of_gained -= of_ref
        of_missed += of_alt + of_other
    else:
        of_missed -= of_alt if shown == _ALT else of_other
        of_false += of_ref + (of_other if shown == _ALT else of_alt)
    if of_false != 0.0:
        alone, power = _false_alone(row, shown, own, gained, anchor), 1.0
        if rank > 0:
            # At zero, where the learned dependence begins to count, its slope is that of the side where it does.
            power = np.exp(min(own[SHARED + 1], 0.0)) ** rank
            raised = alone**power
            if raised >= 1.0 - missed and raised > alone:
                of_missed -= of_false
                of_false = 0.0
            elif own[SHARED + 1] <= 0.0:
                found[SHARED + 1] += of_false * raised * np.log(alone) * rank * power
            of_false *= power * raised / alone
        if shown == _ALT and row[ENTANGLED] and alone > gained:
            if alone < 0.6:
                found[TOGETHER] += of_false * alone
        else:
            of_gained += of_false if shown == _ALT or alone < 0.6 else 0.0
            of_anchor += of_false if shown != _ALT and alone < 0.6 else 0.0
    if missed < 0.6:
        found[MISSED + row[INSERTED]] += of_missed * without
        of_gained += of_missed
        of_anchor += of_missed
    found[ANCHOR] += of_anchor * anchor
    if gained < 0.4:
        found[_indel_place(row)] += of_gained * _made_by_repeat(row, own)
        misplaced = _misplaced(fragment, own)
        if misplaced > np.exp(-_PHRED * _MOST - own[LIMIT]):
            left = min(fragment >> 11 & 63, _MOST)
            _slopes_gradient(own, MAPPING_QUALITY, left, 10, of_gained * misplaced, found)
        else:
            found[LIMIT] -= of_gained * misplaced


@kernel
def _logistic(value: float) -> float:
    return 1.0 / (1.0 + np.exp(-value))


@kernel
def _log_sum(one: float, two: float, three: float) -> float:
    largest = max(one, two, three)
    return largest + np.log(np.exp(one - largest) + np.exp(two - largest) + np.exp(three - largest))
