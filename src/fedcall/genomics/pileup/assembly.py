"""Spell the haplotypes of a short stretch of the genome from its reads, by a de Bruijn graph."""

import numpy as np

from fedcall.genomics.pileup import assembly_kernels as kernels
from fedcall.genomics.reads.record_fields import MIN_BASE_QUALITY

SIZES = (25, 35, 45, 55, 65, 75)
"""Lengths of the graph's words, tried in this order: longer ones see through longer repeats."""
MIN_SHARE = 0.08
"""Share of the reads at a place that must spell a haplotype there, and at least two reads."""
MOST_PATHS = 64
_SPARE = 10


def assemble(
    bases: np.ndarray, qualities: np.ndarray, lengths: np.ndarray, reference: np.ndarray, first: int, behind: int
) -> tuple[int, int, list[np.ndarray]] | None:
    """Return the haplotypes unlike the reference that reads spell, with the shortest words that give no cycle.

    Parameters
    ----------
    bases, qualities : uint8, shape (reads, longest); 0..3 = ACGT, what lies behind a read is no base
    lengths : int64, shape (reads,)
    reference : uint8, 0..3 = ACGT, 4 = other
    first, behind : the stretch in question, as indices of `reference`

    Returns
    -------
    (first, last + 1 index of the reference that the haplotypes replace; haplotypes, uint8), or None
    """
    good = (bases < 4) & (qualities >= MIN_BASE_QUALITY)
    for size in SIZES:
        low, high = first - size - _SPARE, behind + size + _SPARE
        if low < 0 or high > len(reference) or (reference[low:high] > 3).any():
            return None
        if np.count_nonzero(lengths >= size + _SPARE) < 2:
            return None
        plain = reference[low:high]
        expected = _words(plain[None], plain[None] < 4, size)[0]
        if len(np.unique(expected)) < len(expected):
            continue
        steps, last_bases, nodes = _graph(_words(bases, good, size), bases, plain, expected, size)
        paths = _paths(steps, len(last_bases), int(nodes[0]), int(nodes[-1]))
        if paths is not None:
            spelled = [np.concatenate([plain[:size], last_bases[path[1:]]]) for path in paths]
            found = [path for path in spelled if not np.array_equal(path, plain)]
            return (low, high, found) if found else None
    return None


def _words(bases: np.ndarray, good: np.ndarray, size: int) -> np.ndarray:
    """Return a number for each word of `size` bases in each row, 0 where one is not good (uint64)."""
    words = np.empty((len(bases), max(0, bases.shape[1] - size + 1)), np.uint64)
    kernels.number_words(bases, good, size, words)
    return words


def _graph(
    words: np.ndarray, bases: np.ndarray, plain: np.ndarray, expected: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the steps from word to word that enough reads make or the reference does, and what the words are.

    Returns
    -------
    steps : int64, shape (edges, 2), sorted; numbers of words
    last_bases : uint8, shape (words,)
    nodes : int64; the words of the reference
    """
    whole = words > 0
    spelled = np.concatenate([expected, words[whole]])
    order = np.argsort(spelled)
    ordered = spelled[order]
    numbers = np.empty(len(spelled), np.int64)
    numbers[order] = np.cumsum(np.append(0, ordered[1:] != ordered[:-1]))
    count = int(numbers.max()) + 1
    nodes = numbers[: len(expected)]
    last_bases = np.empty(count, np.uint8)
    last_bases[numbers[len(expected) :]] = bases[:, size - 1 :][whole]
    last_bases[nodes] = plain[size - 1 :]
    placed = np.full(words.shape, -1, np.int64)
    placed[whole] = numbers[len(expected) :]
    follows = (placed[:, :-1] >= 0) & (placed[:, 1:] >= 0)
    own = nodes[:-1] * count + nodes[1:]
    made = placed[:, :-1][follows] * count + placed[:, 1:][follows]
    steps, reads = np.unique(np.concatenate([made, own]), return_counts=True)
    places = np.searchsorted(steps, own)
    reads[places] -= 1  # what the reference does itself
    enough = reads >= max(2.0, MIN_SHARE * reads[places].sum() / len(own))
    enough[places] = True
    kept = steps[enough]
    return np.stack([kept // count, kept % count], 1), last_bases, nodes


def _paths(steps: np.ndarray, words: int, source: int, sink: int) -> list[np.ndarray] | None:
    """Return all paths from source to sink, or None if there are cycles or too many paths."""
    useful = np.zeros(words, bool)
    before, after = np.ascontiguousarray(steps.T)
    if kernels.part_between(before, after, source, sink, useful):
        return None
    own = useful[before] & useful[after]
    paths, lengths = np.empty((MOST_PATHS, np.count_nonzero(useful)), np.int64), np.empty(MOST_PATHS, np.int64)
    found = kernels.list_paths(before[own], after[own], words, source, sink, paths, lengths)
    return [path[:length] for path, length in zip(paths, lengths[:found], strict=False)] if found >= 0 else None
