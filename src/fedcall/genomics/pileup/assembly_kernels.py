"""Loops of a de Bruijn graph: its words, and the part of it between two of them."""

import numpy as np

from fedcall.compiled import kernel

_MULTIPLIER = np.uint64(6364136223846793005)
_ONE = np.uint64(1)


@kernel
def number_words(bases: np.ndarray, good: np.ndarray, size: int, words: np.ndarray) -> None:
    """Write a number for each word of `size` bases, equal ones for equal words; 0 where a base is not good.

    Parameters
    ----------
    bases : uint8, shape (reads, longest)
    good : bool, the same shape
    words : uint64, shape (reads, longest - size + 1), written; a polynomial that rolls (Karp, Rabin 1987)
    """
    oldest = _ONE
    for _ in range(size):
        oldest *= _MULTIPLIER
    for row in range(len(bases)):
        word, clean = np.uint64(0), 0
        for at in range(bases.shape[1]):
            word = word * _MULTIPLIER + np.uint64(bases[row, at]) + _ONE
            if at >= size:
                word -= oldest * (np.uint64(bases[row, at - size]) + _ONE)
            clean = clean + 1 if good[row, at] else 0
            if at >= size - 1:
                words[row, at - size + 1] = word if clean >= size else np.uint64(0)


@kernel
def part_between(before: np.ndarray, after: np.ndarray, source: int, sink: int, useful: np.ndarray) -> bool:
    """Mark the nodes on the way from source to sink, and return whether there is a cycle among them.

    Parameters
    ----------
    before, after : int64, shape (edges,), sorted by `before`; nodes are numbered from 0
    useful : bool, shape (nodes,), false, written
    """
    nodes, edges = len(useful), len(before)
    begins = np.zeros(nodes + 1, np.int64)
    ends = np.zeros(nodes + 1, np.int64)
    for k in range(edges):
        begins[before[k] + 1] += 1
        ends[after[k] + 1] += 1
    for node in range(nodes):
        begins[node + 1] += begins[node]
        ends[node + 1] += ends[node]
    backward, filled = np.empty(edges, np.int64), ends[:-1].copy()
    for k in range(edges):
        backward[filled[after[k]]] = before[k]
        filled[after[k]] += 1
    reached = np.zeros(nodes, np.bool_)
    waiting, count = np.empty(nodes, np.int64), 1
    waiting[0], reached[source] = source, True
    while count:
        count -= 1
        node = waiting[count]
        # What follows the sink leads nowhere.
        for k in range(begins[node], begins[node + 1] if node != sink else begins[node]):
            if not reached[after[k]]:
                reached[after[k]] = True
                waiting[count] = after[k]
                count += 1
    if not reached[sink]:
        return False
    waiting[0], useful[sink], count, total = sink, True, 1, 1
    while count:
        count -= 1
        node = waiting[count]
        for k in range(ends[node], ends[node + 1]):
            other = backward[k]
            if reached[other] and not useful[other] and other != sink:
                useful[other] = True
                waiting[count] = other
                count += 1
                total += 1
    # Take nodes without predecessors away, one after the other (Kahn 1962).
    left = np.zeros(nodes, np.int64)
    for k in range(edges):
        if useful[before[k]] and useful[after[k]] and before[k] != sink:
            left[after[k]] += 1
    count = taken = 0
    for node in range(nodes):
        if useful[node] and left[node] == 0:
            waiting[count] = node
            count += 1
    while count:
        count -= 1
        node = waiting[count]
        taken += 1
        for k in range(begins[node], begins[node + 1] if node != sink else begins[node]):
            if useful[after[k]]:
                left[after[k]] -= 1
                if left[after[k]] == 0:
                    waiting[count] = after[k]
                    count += 1
    return taken < total


@kernel
def list_paths(
    before: np.ndarray,
    after: np.ndarray,
    nodes: int,
    source: int,
    sink: int,
    paths: np.ndarray,
    lengths: np.ndarray,
) -> int:
    """List all paths from source to sink of a graph without cycles in which every node lies on one.

    Parameters
    ----------
    before, after : int64, shape (edges,), sorted by `before`
    paths : int64, shape (most, nodes of the longest path), written
    lengths : int64, shape (most,), written

    Returns
    -------
    number of paths, or -1 if there are more than fit
    """
    begins = np.zeros(nodes + 1, np.int64)
    for k in range(len(before)):
        begins[before[k] + 1] += 1
    for node in range(nodes):
        begins[node + 1] += begins[node]
    path = np.empty(paths.shape[1], np.int64)
    # Branches not taken yet, and their places: the path before such a place is there still when its turn comes.
    branches, depths, waiting = np.empty(len(before) + 1, np.int64), np.empty(len(before) + 1, np.int64), 1
    branches[0], depths[0] = source, 0
    found = 0
    while waiting:
        waiting -= 1
        at = depths[waiting]
        path[at] = branches[waiting]
        while path[at] != sink:
            first, last = begins[path[at]], begins[path[at] + 1]
            at += 1
            for k in range(first + 1, last):
                branches[waiting], depths[waiting] = after[k], at
                waiting += 1
            path[at] = after[first]
        if found + 1 + waiting > len(paths):
            return -1
        paths[found, : at + 1] = path[: at + 1]
        lengths[found] = at + 1
        found += 1
    return found
