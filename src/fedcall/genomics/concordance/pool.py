"""Pool concordances over patients, and say how sure the pooled figure is."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedcall.genomics.concordance.comparison import Block, Concordance, assemble
from fedcall.genomics.concordance.figures import Tally
from fedcall.genomics.concordance.records import VariantKind

Figure = Literal["precision", "recall", "f1"]
PooledKind = VariantKind | Literal["all"]


def pool(concordances: Sequence[Concordance]) -> Concordance:
    """Add up the counts of several patients; figures are those of the sums.

    Blocks of patients with the same regions are added place by place, those of other regions follow one another.
    Indel counts come from the patients whose truth has indel labels.

    Raises
    ------
    ValueError
        If there is nothing to pool.
    """
    if not concordances:
        raise ValueError("Pooling needs at least one concordance. Found none.")
    places: dict[str, list[Block]] = {}
    strata: dict[tuple[VariantKind, str, str], Tally] = defaultdict(Tally)
    for concordance in concordances:
        known = places.get(concordance.regions_digest)
        blocks = concordance.blocks
        places[concordance.regions_digest] = (
            blocks if known is None else [_add(mine, other) for mine, other in zip(known, blocks, strict=True)]
        )
        for stratum in concordance.strata:
            strata[stratum.type, stratum.stratum, stratum.value] += stratum.figures.tally
    digests = list(places)
    return assemble(
        patients=sum(concordance.patients for concordance in concordances),
        regions_bases=sum(concordance.regions_bases for concordance in concordances),
        regions_digest=digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        blocks=[block for blocks in places.values() for block in blocks],
        strata=strata,
        calibration=[
            (sum(column.calls for column in bins), sum(column.errors for column in bins))
            for bins in zip(*(concordance.calibration for concordance in concordances), strict=True)
        ],
    )


def interval(
    concordances: Sequence[Concordance],
    kind: PooledKind = "snps",
    figure: Figure = "f1",
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 1,
) -> tuple[float, float] | None:
    """Return a bootstrap interval of a pooled figure, or None where the figure itself is None.

    Patients and blocks of the regions are resampled independently of each other: people share variants and difficult
    places, so patients alone would give too narrow an interval. Equal arguments give equal intervals.

    Parameters
    ----------
    concordances : one per patient
    kind, figure : what to give an interval for
    level : coverage, in (0, 1)
    replicates, seed : number of resamples, and the seed of the (not private) generator

    Notes
    -----
    Owen 2007, "The pigeonhole bootstrap", section 3: resampling both factors is conservative.
    """
    return _quantiles(_replicates(concordances, kind, figure, replicates, seed), level)


def difference_interval(
    concordances: Sequence[Concordance],
    others: Sequence[Concordance],
    kind: PooledKind = "snps",
    figure: Figure = "f1",
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 1,
) -> tuple[float, float] | None:
    """Return a bootstrap interval of a pooled figure of `concordances` less that of `others`, or None.

    Both are calls on the same patients, in the same order, and every resample draws the same patients and blocks of
    both: what is hard for either caller cancels, so the interval is much narrower than those of the two figures.

    Raises
    ------
    ValueError
        If the two sequences differ in length or in the regions of a patient.
    """
    if [one.regions_digest for one in concordances] != [one.regions_digest for one in others]:
        raise ValueError("A difference needs the same patients, with the same regions, on both sides.")
    first, second = (_replicates(side, kind, figure, replicates, seed) for side in (concordances, others))
    return _quantiles(first - second, level)


def _replicates(
    concordances: Sequence[Concordance], kind: PooledKind, figure: Figure, replicates: int, seed: int
) -> np.ndarray:
    """Return the figure of every resample, float64, shape (replicates,); NaN where it cannot be said."""
    counts: dict[str, list[np.ndarray]] = defaultdict(list)
    for concordance in concordances:
        counts[concordance.regions_digest].append(np.array([_row(block, kind) for block in concordance.blocks]))
    generator = np.random.default_rng(seed)
    people = sum(len(rows) for rows in counts.values())
    if people == 0:
        return np.full(replicates, np.nan)
    weights = generator.multinomial(people, np.full(people, 1 / people), size=replicates)
    totals = np.zeros((replicates, 4))
    first = 0
    for rows in counts.values():
        cube = np.stack(rows)  # people, blocks, counts
        blocks = cube.shape[1]
        drawn = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=replicates)
        mine = weights[:, first : first + len(rows)]
        totals += np.einsum("rp,pbc,rb->rc", mine, cube, drawn, optimize=True)
        first += len(rows)
    return _figures(totals, figure)


def _quantiles(values: np.ndarray, level: float) -> tuple[float, float] | None:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _add(mine: Block, other: Block) -> Block:
    indels = [block.indels for block in (mine, other) if block.indels is not None]
    return Block(snps=mine.snps + other.snps, indels=Tally.total(indels) if indels else None)


def _row(block: Block, kind: PooledKind) -> tuple[int, int, int, int]:
    tallies = [] if kind == "indels" else [block.snps]
    if kind != "snps" and block.indels is not None:
        tallies.append(block.indels)
    tally = Tally.total(tallies)
    return tally.truth, tally.tp, tally.calls, tally.tp_calls


def _figures(totals: np.ndarray, figure: Figure) -> np.ndarray:
    truth, tp, calls, tp_calls = totals.T
    with np.errstate(invalid="ignore", divide="ignore"):
        precision: np.ndarray = tp_calls / calls
        recall: np.ndarray = tp / truth
        if figure == "precision":
            return precision
        if figure == "recall":
            return recall
        right = np.where(calls > 0, precision, 0.0)
        both = right + recall
        return np.where(both > 0, 2 * right * recall / both, np.where(truth > 0, 0.0, np.nan))
