"""The likelihood of `genomics.pileup.likelihood` with constants that can be learned, and its gradient.

A row is computed from its own fragments alone and in their order, so its values depend on no other row and on no batch.
Nothing in a row tells where in the genome it lies. With constants of zero this is the likelihood that examples hold,
but for rounding and for values that packing caps.
"""

import numpy as np

from fedcall.compiled import kernel
from fedcall.model.chemistry_base_kernels import base_error, base_gradient, dependence, log_misread
from fedcall.model.chemistry_belief_kernels import (
    BALANCE,
    FRAGMENTS,
    INSERTED,
    IS_INDEL,
    KIND,
    MISSED,
    MOST,
    PRIOR,
    SHOWN_NEITHER,
    SHOWN_REF,
    THIRD,
    departed_quality,
    logistic,
)
from fedcall.model.chemistry_indel_kernels import false_indel, gained_by_chance, indel_gradient, short_anchor

_THIRD_ALLELE = np.log(1e-3)  # likelihood.THIRD_ALLELE


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
    ranks, seen = np.empty(rows.shape[1], np.int64), np.empty((8, MOST + 2), np.int64)
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
    ranks, seen = np.empty(rows.shape[1], np.int64), np.empty((8, MOST + 2), np.int64)
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
        share = logistic(own[balance])
        for k in range(FRAGMENTS, rows.shape[1]):
            fragment = rows[row, k]
            if fragment < 0:
                break
            if fragment & 3 == SHOWN_NEITHER:
                continue
            _chances(rows[row], fragment, own, ranks[k], chance)
            p, a, o = chance[0], chance[1], chance[2]
            mixed = (1.0 - share) * p + share * a
            found[balance] += shares[3] * (a - p) / mixed * share * (1.0 - share)
            of_ref = shares[0] / p + shares[1] / (p + o) + shares[3] * (1.0 - share) / mixed
            of_alt = shares[3] * share / mixed + shares[4] / (a + o) + shares[5] / a
            of_other = shares[1] / (p + o) + shares[2] / o + shares[4] / (a + o)
            if rows[row, IS_INDEL]:
                indel_gradient(rows[row], fragment, own, ranks[k], of_ref, of_alt, of_other, found)
            else:
                base_gradient(rows[row], fragment, own, ranks[k], of_ref, of_alt, of_other, chance, found)


@kernel
def _totals(row: np.ndarray, own: np.ndarray, ranks: np.ndarray, chance: np.ndarray, totals: np.ndarray) -> None:
    """Write log P(fragments | pair of haplotypes) of the pairs RR, RO, OO, RA, AO, AA."""
    totals[:] = 0.0
    share = logistic(own[BALANCE + row[IS_INDEL] * (1 + row[INSERTED])])
    for k in range(FRAGMENTS, len(row)):
        if row[k] < 0:
            break
        if row[k] & 3 == SHOWN_NEITHER:
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
        for place in range(MOST + 1, 0, -1):
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
    quality = min(fragment >> 5 & 63, fragment >> 11 & 63, MOST)
    return quality if fragment & 3 == SHOWN_REF else min(quality, departed_quality(fragment >> 22 & 7))


@kernel
def _chances(row: np.ndarray, fragment: int, own: np.ndarray, rank: int, chance: np.ndarray) -> None:
    """Write P(what the fragment shows | haplotype REF, ALT, OTHER), and for bases the error behind them."""
    shown = fragment & 3
    if row[IS_INDEL]:
        gained, anchor = gained_by_chance(row, fragment, own), short_anchor(fragment, own)
        missed = min(gained + 0.03 * np.exp(own[MISSED + row[INSERTED]]) + anchor, 0.6)
        chance[0] = 1.0 - gained if shown == SHOWN_REF else false_indel(row, shown, own, rank, gained, anchor, missed)
        for haplotype in range(1, 3):
            if shown == haplotype:
                chance[haplotype] = 1.0 - missed
            elif shown == SHOWN_REF:
                chance[haplotype] = missed
            else:
                chance[haplotype] = false_indel(row, shown, own, rank, gained, anchor, missed)
        return
    error = base_error(fragment, own)
    power = dependence(own) ** rank
    chance[3] = error
    for haplotype in range(3):
        if shown == haplotype:
            chance[haplotype] = 1.0 - error
        else:
            log_error = log_misread(row, fragment, own, haplotype, error)
            chance[haplotype] = min(np.exp(power * log_error), 1.0 - error)


@kernel
def _log_sum(one: float, two: float, three: float) -> float:
    largest = max(one, two, three)
    return float(largest + np.log(np.exp(one - largest) + np.exp(two - largest) + np.exp(three - largest)))
