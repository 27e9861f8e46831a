"""Single values of an update that no noise and no other site explains.

Each site's values are compared with the median of the other sites' values in the same place. What is left is noise of
a known standard deviation and, where patients differ, signal. Its scale is that of all places but the largest few, or
that of the noise, whichever is more; a value is too large if noise of that scale passes it nowhere. Honest signals may
differ in length: where the median shows signal, `ratio` times of it is no surprise, and where the other sites have
values far out, too (in other weights), a site may have them `ratio` times as far out.
"""

import math
from collections.abc import Iterator

import numpy as np

_SET_ASIDE = 16
"""Largest values that do not count for the scale: they would hide themselves."""
_SIGNAL = 4.0
"""Standard deviations of its noise from which on a median shows signal."""


class Peaks:
    """Gathers, piece by piece, how far each site's values are from the others'.

    Parameters
    ----------
    noise_std : float64, shape (sites,)
        Of the noise in each value of each site; three sites or more.
    ratio : float
        How many times longer than the others' a site's signal may honestly be.
    """

    def __init__(self, noise_std: np.ndarray, ratio: float) -> None:
        self._ratio = ratio
        self._of_median = _median_std(noise_std)
        self._known = np.hypot(noise_std, self._of_median)
        self._energy = np.zeros(len(noise_std))
        self._furthest = np.zeros(len(noise_std))
        self._largest = np.zeros((len(noise_std), _SET_ASIDE))
        self._count = 0

    def add(self, rows: np.ndarray) -> None:
        """Take in the same places of all updates: float64, shape (sites, places)."""
        medians = medians_of_others(rows)
        signal = np.maximum(np.abs(medians) - _SIGNAL * self._of_median[:, None], 0)
        apart = np.abs(rows - medians)
        unexplained = (apart - (self._ratio - 1) * signal).max(axis=1, initial=0.0)
        self._furthest = np.maximum(self._furthest, unexplained)
        self._energy += np.square(apart).sum(axis=1)
        self._count += rows.shape[1]
        largest = np.concatenate([self._largest, apart], axis=1)
        self._largest = np.partition(largest, -_SET_ASIDE, axis=1)[:, -_SET_ASIDE:]

    def excess(self, limit: float) -> np.ndarray:
        """Return by how many standard deviations each site's largest value is too far out: float64, shape (sites,).

        `limit` is in standard deviations, too: what noise passes in no place.
        """
        if self._count <= 2 * _SET_ASIDE or not (self._known > 0).all():
            return np.zeros(len(self._known))
        rest = np.maximum(self._energy - np.square(self._largest).sum(axis=1), 0) / (self._count - _SET_ASIDE)
        over = self._furthest / np.maximum(self._known, np.sqrt(rest)) - limit
        others = [np.median(np.maximum(np.delete(over, site), 0)) for site in range(len(over))]
        return np.asarray(np.maximum(over - self._ratio * np.array(others), 0.0))


def find_single_values(
    pieces: Iterator[np.ndarray], noise_std: np.ndarray, limit: float, ratio: float
) -> tuple[int, float] | None:
    """Return the site with the value that is furthest out and by how much, or None; see `Peaks` for the parameters."""
    peaks = Peaks(noise_std, ratio)
    for rows in pieces:
        peaks.add(rows)
    excess = peaks.excess(limit)
    worst = int(excess.argmax())
    return (worst, float(excess[worst])) if excess[worst] > 0 else None


def medians_of_others(rows: np.ndarray) -> np.ndarray:
    """Return, for each site and place, the median of the other sites' values: shape (sites, places).

    Examples
    --------
    >>> medians_of_others(np.array([[1.0], [2.0], [9.0]])).tolist()
    [[5.5], [5.0], [1.5]]
    """
    order = rows.argsort(axis=0)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(rows))[:, None], axis=0)
    ordered = np.take_along_axis(rows, order, axis=0)
    upper = (len(rows) - 1) // 2
    lower = (len(rows) - 2) // 2
    return np.asarray((_without(ordered, ranks, lower) + _without(ordered, ranks, upper)) / 2)


def _without(ordered: np.ndarray, ranks: np.ndarray, position: int) -> np.ndarray:
    """Return the value at a position of the sorted values once a site's own is taken out."""
    return np.asarray(np.where(ranks > position, ordered[position], ordered[position + 1]))


def _median_std(noise_std: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the median of the others' noises, for each site: float64, shape (sites,)."""
    wider = 1.0 if len(noise_std) == 3 else math.pi / 2  # of two, the median is the mean
    others = np.array([float(np.square(np.delete(noise_std, site)).mean()) for site in range(len(noise_std))])
    return np.asarray(np.sqrt(wider * others / (len(noise_std) - 1)))
