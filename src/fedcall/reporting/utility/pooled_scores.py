"""Figures of several trainings on the same held-out people, with intervals over seeds, people and places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.experiments.utility_documents import PersonScore
from fedcall.reporting.evaluation.documents import Difference, Measure

REPLICATES = 2000
_SEED = 1


@dataclass(frozen=True)
class Pooled:
    """A figure of all scores together, and of each resample: float64, NaN where nothing can be said."""

    value: float
    resampled: np.ndarray

    @property
    def measure(self) -> Measure:
        """The figure with its 95 % interval."""
        low, high = _interval(self.resampled)
        return Measure(value=_known(self.value), low=low, high=high)

    def less(self, other: "Pooled") -> Difference:
        """Return the difference: what is hard for both cancels, for the same people and places were drawn."""
        low, high = _interval(self.resampled - other.resampled)
        return Difference(value=_known(self.value - other.value), low=low, high=high)


def pooled_f1(runs: Sequence[Sequence[PersonScore]], indels: bool = False) -> Pooled:
    """Return F1 of SNPs or indels over trainings (`runs`) that differ in their seed, people in the same order.

    Notes
    -----
    Owen 2007, "The pigeonhole bootstrap", section 3: seeds, people and pieces of the regions are resampled
    independently of each other, which is conservative.
    """
    # Counts by seed, person and piece; people with other regions have pieces of their own.
    seeds, people = _weights("seeds", len(runs)), _weights("people", len(runs[0]))
    totals, whole = np.zeros((REPLICATES, 4)), np.zeros(4)
    for place in dict.fromkeys(person.regions_digest for person in runs[0]):
        own = [index for index, person in enumerate(runs[0]) if person.regions_digest == place]
        kind = [[run[index].indels if indels else run[index].snps for index in own] for run in runs]
        if any(blocks is None for run in kind for blocks in run):
            continue
        cube = np.array(kind, np.float64)  # seeds, people, pieces, counts
        drawn = _weights(place, cube.shape[2])
        totals += np.einsum("rs,rp,spbc,rb->rc", seeds, people[:, own], cube, drawn, optimize=True)
        whole += cube.sum((0, 1, 2))
    return Pooled(float(_f1(whole[None])[0]), _f1(totals))


def pooled_rare_recall(runs: Sequence[Sequence[PersonScore]]) -> Pooled:
    """Return the recall of rare SNPs; resampled over seeds and people."""
    counts = np.array([[person.rare for person in run] for run in runs], np.float64)  # seeds, people, (truth, found)
    seeds, people = _weights("seeds", len(runs)), _weights("people", counts.shape[1])
    totals = np.einsum("rs,rp,spc->rc", seeds, people, counts, optimize=True)
    whole = counts.sum((0, 1))
    return Pooled(float(_ratio(whole[None, 1], whole[None, 0])[0]), _ratio(totals[:, 1], totals[:, 0]))


def _weights(what: str, count: int) -> np.ndarray:
    """Return how often each of `count` things is drawn in each resample; the same whatever model is scored."""
    generator = np.random.default_rng([_SEED, *what.encode()])
    return generator.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float64)


def _f1(totals: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of recall (found / truth) and precision (right / called) of rows of four counts."""
    truth, found, called, right = totals.T
    recall, precision = _ratio(found, truth), np.nan_to_num(_ratio(right, called))
    both = np.where(recall + precision > 0, recall + precision, 1.0)
    f1: np.ndarray = 2 * recall * precision / both
    return f1


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratios: np.ndarray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratios


def _interval(values: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
