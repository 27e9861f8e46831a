"""Which of many people are one human being, and which are close relatives, among all pairs.

Two ways, and the verdict says which: the same reads stand in both files; or genotypes at common sites say so. For the
second, the likelihoods of the reads are compared for two shared alleles, one, and none (as KING and somalier compare
genotypes), site by site, weighted down where sites are linked: sites on a stretch of 150 kb count for about a dozen.
Two unrelated people can agree at every common site of such a stretch, so a small region cannot tell, and the verdict is
then "cannot tell" and never "unrelated".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.genomics.identity.common_places import CommonPlaces, find_common_places
from fedcall.genomics.identity.pair_kernels import compare_pairs
from fedcall.genomics.identity.sketch import Sketch

Relation = Literal["same reads", "same person", "relatives", "unrelated", "cannot tell"]

SAME_AT = 12.0
"""Log-likelihood ratio for one person, weighted: no pair of 19,900 real people reached it on 150 kb at 2x to 30x, and
none of 7,140 reached 5 on 500 kb (docs/results.md)."""
APART_AT = -8.0
"""One person's genotypes may not look more apart than this, as errors of few reads do."""
APART_MORE = 0.2
"""By so much more, per unit of evidence for one person: errors add up over sites, and so does that evidence."""
RELATED_AT = 8.0
"""Log-likelihood ratio of parent and child, or of siblings, against unrelated people, weighted."""
DIFFERENT_AT = -8.0
"""Below it two files are not of one person."""
SHARED_READS = 30
SHARED_PART = 0.1
"""At least so many common reads, and this part of the smaller file's, are the same data."""
_CORRELATION, _REACH = 0.33, 20_000
"""Squared correlation of two common sites, decaying with their distance, bases (fitted on 1000 Genomes CEU)."""
_SEGMENT = 5_000_000
"""Bases that are mostly inherited together."""
_APART_SHARES = np.array([0.01, 0.02, 0.05, 0.1, 0.2])


@dataclass(frozen=True)
class Pair:
    """Two people compared; `one` and `other` are places in the list of sketches.

    Attributes
    ----------
    same, relatives : log-likelihood ratios against unrelated people
    apart : how much better one person explains the reads than two who differ at some sites; negative against one person
    possible : what `same` could reach with these reads, about
    shared_reads : reads that are in both, of those looked at
    """

    one: int
    other: int
    verdict: Relation
    same: float
    relatives: float
    apart: float
    possible: float
    shared_reads: int

    @property
    def are_one(self) -> bool:
        """Whether the two are one human being."""
        return self.verdict in ("same reads", "same person")

    @property
    def are_two(self) -> bool:
        """Whether the two are certainly not one human being."""
        return not self.are_one and (self.same < DIFFERENT_AT or self.apart < 2 * DIFFERENT_AT)


@dataclass(frozen=True)
class Comparison:
    """All pairs that were looked at, and on how many sites."""

    sites: int
    bases: int
    pairs: tuple[Pair, ...]


def compare_people(
    sketches: Sequence[Sketch], new: int | None = None, panel: Path | None = None, reference: Path | None = None
) -> Comparison:
    """Compare all pairs with at least one of the first `new` people (all, if left out).

    Parameters
    ----------
    sketches : one of each person
    panel : VCF of public allele frequencies; without it they are estimated among these people
    reference : indexed FASTA, needed with a panel
    """
    new = len(sketches) if new is None else new
    pairs = [(one, other) for one in range(new) for other in range(one + 1, len(sketches))]
    bases = max((sketch.positions for sketch in sketches), default=0)
    if not pairs:
        return Comparison(0, bases, ())
    sites = find_common_places(sketches, panel, reference)
    shared, apart, possible = score(sites, np.array(pairs, np.int64))
    same, relatives = _ratios(shared)
    found = []
    for row, (one, other) in enumerate(pairs):
        reads, part = _shared_reads(sketches[one], sketches[other])
        figures = (float(same[row]), float(relatives[row]), float(apart[row]), float(possible[row]))
        is_copy = reads >= SHARED_READS and part >= SHARED_PART
        found.append(Pair(one, other, _verdict(is_copy, *figures), *figures, reads))
    return Comparison(len(sites), bases, tuple(found))


def score(sites: CommonPlaces, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for pairs (int64, shape (p, 2)) the sums of `compare_pairs`, the second as the case for one person."""
    _, segments = np.unique(sites.contig * (1 << 40) + sites.position // _SEGMENT, return_inverse=True)
    segments = segments.astype(np.int64)
    count = int(segments.max(initial=0)) + 1
    shared = np.zeros((len(pairs), count, 2))
    apart = np.zeros((len(pairs), len(_APART_SHARES)))
    possible = np.zeros(len(pairs))
    compare_pairs(
        np.ascontiguousarray(sites.likelihoods),
        np.ascontiguousarray(sites.dosages),
        sites.frequency,
        sites.is_public,
        link_weights(sites.contig, sites.position),
        segments,
        pairs,
        _APART_SHARES,
        shared,
        apart,
        possible,
    )
    return shared, -apart.max(1), possible


def verdict_of(shared: np.ndarray, apart: np.ndarray, possible: np.ndarray) -> list[Relation]:
    """Return the verdict by genotypes alone for each row of what `score` returns."""
    figures = zip(*_ratios(shared), apart, possible, strict=True)
    return [_verdict(False, *map(float, row)) for row in figures]


def _ratios(shared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log-likelihood ratios of one person and of close relatives against unrelated people."""
    # Siblings share two, one or no allele on each stretch with the chances 1/4, 1/2, 1/4; parent and child one.
    siblings = np.logaddexp(np.logaddexp(shared[..., 0], shared[..., 1] + math.log(2)), 0.0) - math.log(4)
    return shared[:, :, 0].sum(1), np.maximum(siblings.sum(1), shared[:, :, 1].sum(1))


def link_weights(contig: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return what each site counts, so that linked ones count together about as one: float64, shape (s,).

    1 over the sum of expected squared correlations with all sites, itself included (as LD scores weight; Bulik-Sullivan
    et al. 2015).
    """
    order = np.lexsort((position, contig))
    weights = np.ones(len(position))
    at, of = position[order], contig[order]
    far = 5 * _REACH
    first = 0
    for row in range(len(order)):
        while of[first] != of[row] or at[row] - at[first] > far:
            first += 1
        last = row + int(np.searchsorted(at[row:][of[row:] == of[row]], at[row] + far, side="right"))
        distances = np.abs(at[first:last] - at[row])
        weights[order[row]] = 1 / (1 + _CORRELATION * (np.exp(-distances / _REACH).sum() - 1))
    return weights


def _verdict(is_copy: bool, same: float, relatives: float, apart: float, possible: float) -> Relation:
    if is_copy:
        return "same reads"
    if same >= SAME_AT and apart >= APART_AT - APART_MORE * (same - SAME_AT) and same >= relatives:
        return "same person"
    if relatives >= RELATED_AT:
        return "relatives"
    return "unrelated" if possible >= SAME_AT else "cannot tell"


def _shared_reads(one: Sketch, other: Sketch) -> tuple[int, float]:
    """Return how many reads two sketches have in common, and their part of the smaller one; by the better of two ways.

    Only hashes below both sketches' largest are compared: the same reads have them in both.
    """
    best = (0, 0.0)
    for mine, theirs in zip(one.reads, other.reads, strict=True):
        if not len(mine) or not len(theirs):
            continue
        most = min(mine[-1], theirs[-1])
        mine, theirs = mine[mine <= most], theirs[theirs <= most]
        common = len(np.intersect1d(mine, theirs, assume_unique=True))
        best = max(best, (common, common / max(1, min(len(mine), len(theirs)))))
    return best
