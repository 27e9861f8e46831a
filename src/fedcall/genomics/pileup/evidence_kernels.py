"""Loops that turn observations into evidence: one per fragment and candidate."""

import numpy as np

from fedcall.compiled import kernel

_FEW = 256


@kernel
def one_per_fragment(seen: np.ndarray, mates: np.ndarray, places: int, better: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort observations by place and fragment, and keep of two mates at one place the better; the first of equal ones.

    Parameters
    ----------
    seen : int32, shape (m, columns); column 0 is the place, 1 the record; records ascend
    mates : int64; a fragment is known by the smaller of its two records
    places : number of places
    better : the column to compare mates by

    Returns
    -------
    (int64, rows of `seen` to keep, in order; int64, shape (places + 1,), where each place begins among them)
    """
    begins = np.zeros(places + 1, np.int64)
    for k in range(len(seen)):
        begins[seen[k, 0] + 1] += 1
    for place in range(places):
        begins[place + 1] += begins[place]
    order, filled = np.empty(len(seen), np.int64), begins[:-1].copy()
    for k in range(len(seen)):
        place = seen[k, 0]
        order[filled[place]] = k
        filled[place] += 1
    fragments = np.empty(len(seen), np.int64)
    for k in range(len(seen)):
        record = np.int64(seen[order[k], 1])
        fragments[k] = min(record, mates[record]) if mates[record] >= 0 else record
    kept = 0
    for place in range(places):
        first, last = begins[place], begins[place + 1]
        _sort_stably(fragments[first:last], order[first:last])
        begins[place] = kept
        for k in range(first, last):
            if k > first and fragments[k] == fragments[k - 1]:
                if seen[order[k], better] > seen[order[kept - 1], better]:
                    order[kept - 1] = order[k]
            else:
                order[kept] = order[k]
                kept += 1
    begins[places] = kept
    return order[:kept], begins


@kernel
def _sort_stably(keys: np.ndarray, values: np.ndarray) -> None:
    if len(keys) > _FEW:
        ranks = np.argsort(keys, kind="mergesort")
        keys[:], values[:] = keys[ranks], values[ranks]
        return
    for k in range(1, len(keys)):
        key, value, j = keys[k], values[k], k
        while j > 0 and keys[j - 1] > key:
            keys[j], values[j] = keys[j - 1], values[j - 1]
            j -= 1
        keys[j], values[j] = key, value


@kernel
def compare_bases(
    seen: np.ndarray,
    begins: np.ndarray,
    places: np.ndarray,
    refs: np.ndarray,
    alts: np.ndarray,
    least_fraction: float,
    out_candidate: np.ndarray,
    out_shown: np.ndarray,
    out_row: np.ndarray,
) -> int:
    """Say for every SNP candidate what each observation at its place shows.

    Parameters
    ----------
    seen : int32, one observation per place and fragment, sorted; column 2 is the base (4 = deleted)
    begins : where each place begins in `seen`
    places, refs, alts : int64, shape (n,); place, reference and alternative base of each candidate
    least_fraction : share of the observations that a further base must have: at great depth there are errors of every
        kind, which together would pass for an allele
    out_candidate, out_shown, out_row : int64, written: candidate; what it shows (0 reference, 1 candidate, 2 the best
        supported further base, 3 anything else); row of `seen`
    """
    found = 0
    support = np.zeros(5, np.int64)
    for candidate in range(len(places)):
        first, last = begins[places[candidate]], begins[places[candidate] + 1]
        support[:] = 0
        for row in range(first, last):
            support[seen[row, 2]] += 1
        support[refs[candidate]] = support[alts[candidate]] = -1
        other = np.argmax(support[:4])
        is_allele = support[other] >= least_fraction * (last - first)
        for row in range(first, last):
            base = seen[row, 2]
            shown = 3
            if base == refs[candidate]:
                shown = 0
            elif base == alts[candidate]:
                shown = 1
            elif is_allele and base == other:
                shown = 2
            out_candidate[found], out_shown[found], out_row[found] = candidate, shown, row
            found += 1
    return found
