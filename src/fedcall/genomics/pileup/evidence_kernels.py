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


@kernel
def describe_records(
    seen: np.ndarray,
    order: np.ndarray,
    flags: np.ndarray,
    mapping_qualities: np.ndarray,
    columns: np.ndarray,
    shown: np.ndarray,
    out_shown: np.ndarray,
    reverse: np.ndarray,
    orientation: np.ndarray,
) -> None:
    """Write what `ReadEvidence` holds of some observations.

    Parameters
    ----------
    seen : int32, shape (m, COLUMNS), from `observation_kernels`; column 1 is the record
    order : int64, shape (m,); rows of `seen` and `shown`
    flags, mapping_qualities : int64, of the records
    columns : int64, shape (4, m), written: base quality, mapping quality (255, "unknown", counts as 30), distance to
        the end, departures
    shown : int64, shape (m,)
    out_shown : int8, shape (m,), written
    reverse : bool, shape (m,), written
    orientation : int8, shape (m,), written: +1 for reads of F1R2 fragments, -1 for F2R1, 0 for unpaired reads
    """
    for k in range(len(order)):
        row = order[k]
        record = seen[row, 1]
        flag, quality = flags[record], mapping_qualities[record]
        columns[0, k] = seen[row, 3]
        columns[1, k] = 30 if quality == 255 else quality
        columns[2, k] = seen[row, 4]
        columns[3, k] = seen[row, 5]
        out_shown[k] = shown[row]
        is_reverse, is_first = flag & 0x10 != 0, flag & 0x40 != 0
        reverse[k] = is_reverse
        known = flag & 1 != 0 and is_first != (flag & 0x80 != 0)
        orientation[k] = (1 if is_first != is_reverse else -1) if known else 0


@kernel
def rank_by_quality(
    candidates: np.ndarray, shown: np.ndarray, reverse: np.ndarray, qualities: np.ndarray, ranks: np.ndarray
) -> None:
    """Write how many fragments of the same strand that show the same at the same candidate come before each.

    Better ones come first, and of equally good ones those of earlier rows.

    Parameters
    ----------
    candidates : int64, shape (m,), sorted
    shown : int8; below 4
    reverse : bool
    qualities : int64; at least 0, below 64
    ranks : int64, shape (m,), written
    """
    counts = np.zeros((8, 64), np.int64)
    first = 0
    while first < len(candidates):
        last = first
        while last < len(candidates) and candidates[last] == candidates[first]:
            counts[2 * shown[last] + reverse[last], qualities[last]] += 1
            last += 1
        for group in range(8):  # from how many have a quality to how many have a better one
            better = 0
            for quality in range(counts.shape[1] - 1, -1, -1):
                better, counts[group, quality] = better + counts[group, quality], better
        for k in range(first, last):
            group = 2 * shown[k] + reverse[k]
            ranks[k] = counts[group, qualities[k]]
            counts[group, qualities[k]] += 1
        counts[:] = 0
        first = last


@kernel
def sum_evidence(
    candidates: np.ndarray,
    shown: np.ndarray,
    base_quality: np.ndarray,
    mapping_quality: np.ndarray,
    end_distance: np.ndarray,
    departures: np.ndarray,
    reverse: np.ndarray,
    orientation: np.ndarray,
    highest: int,
    low: int,
    farthest: int,
    most: int,
    sums: np.ndarray,
) -> None:
    """Add up what fragments that show the reference, and those that show the candidate, are like.

    Parameters
    ----------
    candidates : int64, shape (m,)
    shown : int8; 0 for the reference, 1 for the candidate
    base_quality, mapping_quality, end_distance, departures : int64, shape (m,)
    reverse : bool
    orientation : int8
    highest, low, farthest, most : highest mapping quality counted, lowest one that is not low, farthest distance and
        most departures counted
    sums : int64, shape (2, 8, n), added to: for reference and candidate the number of fragments, base qualities,
        mapping qualities, low mapping qualities, distances, departures, forward less reverse, orientations
    """
    for k in range(len(candidates)):
        if shown[k] > 1:
            continue
        row, of = candidates[k], sums[shown[k]]
        of[0, row] += 1
        of[1, row] += base_quality[k]
        of[2, row] += min(mapping_quality[k], highest)
        of[3, row] += mapping_quality[k] < low
        of[4, row] += max(0, min(end_distance[k], farthest))
        of[5, row] += min(departures[k], most)
        of[6, row] += -1 if reverse[k] else 1
        of[7, row] += orientation[k]
