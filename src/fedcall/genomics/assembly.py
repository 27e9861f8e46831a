"""Spell the haplotypes of a short stretch of the genome from its reads, by a de Bruijn graph."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from fedcall.genomics.record_fields import MIN_BASE_QUALITY

SIZES = (25, 35, 45, 55, 65, 75)
"""k-mers tried, as far as reads are longer; short ones find more, long ones see through repeats."""
MIN_SHARE = 0.08
"""Share of the k-mers at a place that must spell a haplotype, and at least two reads."""
MOST_PATHS = 64
_SPARE = 10
_BASES = [bytes([base]) for base in range(4)]


def assemble(
    bases: np.ndarray, qualities: np.ndarray, lengths: np.ndarray, reference: np.ndarray, first: int, behind: int
) -> Iterator[tuple[int, int, list[np.ndarray]]]:
    """Yield, for each size of k-mer that gives a graph without cycles, the haplotypes unlike the reference.

    Parameters
    ----------
    bases, qualities : uint8, shape (reads, longest); 0..3 = ACGT
    lengths : int64, shape (reads,)
    reference : uint8, 0..3 = ACGT, 4 = other
    first, behind : the stretch in question, as indices of `reference`

    Yields
    ------
    first and last + 1 index of the reference that the haplotypes replace, haplotypes (uint8)
    """
    for size in SIZES:
        low, high = first - size - _SPARE, behind + size + _SPARE
        if low < 0 or high > len(reference) or (reference[low:high] > 3).any():
            return
        if np.count_nonzero(lengths >= size + _SPARE) < 2:
            return
        expected = _kmers(reference[low:high], np.zeros(high - low, bool), size)
        if len(set(expected)) < len(expected):
            continue
        counts: Counter[bytes] = Counter()
        for row in range(len(lengths)):
            own = slice(0, lengths[row])
            bad = (bases[row, own] > 3) | (qualities[row, own] < MIN_BASE_QUALITY)
            counts.update(_kmers(bases[row, own], bad, size))
        depth = sum(counts[kmer] for kmer in expected) / len(expected)
        least = max(2.0, MIN_SHARE * depth)
        nodes = {kmer for kmer, count in counts.items() if count >= least} | set(expected)
        paths = _paths(nodes, expected[0], expected[-1])
        if paths is None:
            continue
        plain = reference[low:high].tobytes()
        found = [np.frombuffer(path, np.uint8) for path in paths if path != plain]
        if found:
            yield low, high, found


def _kmers(bases: np.ndarray, bad: np.ndarray, size: int) -> list[bytes]:
    """Return the k-mers of a read that hold no bad base."""
    text = bases.tobytes()
    behind = np.concatenate([[0], np.cumsum(bad)])
    clean = np.flatnonzero(behind[size:] == behind[: max(0, len(behind) - size)])
    return [text[at : at + size] for at in clean.tolist()]


def _paths(nodes: set[bytes], source: bytes, sink: bytes) -> list[bytes] | None:
    """Return what all paths from source to sink spell, or None if there are cycles or too many paths."""
    leading = _reached(nodes, sink, lambda node, base: base + node[:-1])
    graph = {
        node: [kmer for base in _BASES if (kmer := node[1:] + base) in leading]
        for node in _reached(leading, source, lambda node, base: node[1:] + base)
    }
    if source not in leading or _has_cycle(graph):
        return None
    finished: list[bytes] = []
    unfinished = [(source, source)]
    while unfinished:
        node, spelled = unfinished.pop()
        if node == sink:
            finished.append(spelled)
        unfinished += [(branch, spelled + branch[-1:]) for branch in graph[node]]
        if len(finished) + len(unfinished) > MOST_PATHS:
            return None
    return finished


def _reached(nodes: set[bytes], start: bytes, step: Callable[[bytes, bytes], bytes]) -> set[bytes]:
    """Return the nodes that steps from one of them lead to, and itself."""
    reached, unfinished = {start}, [start]
    while unfinished:
        node = unfinished.pop()
        for base in _BASES:
            other = step(node, base)
            if other in nodes and other not in reached:
                reached.add(other)
                unfinished.append(other)
    return reached


def _has_cycle(graph: dict[bytes, list[bytes]]) -> bool:
    """Return whether nodes are left when those without predecessors are taken away one after the other (Kahn 1962)."""
    before = Counter(branch for branches in graph.values() for branch in branches)
    free = [node for node in graph if not before[node]]
    taken = 0
    while free:
        taken += 1
        for branch in graph[free.pop()]:
            before[branch] -= 1
            if not before[branch]:
                free.append(branch)
    return taken < len(graph)
