"""How many bases and reads it takes to tell one person, parent and child, and siblings from unrelated people.

Families are made of real haplotypes. A region is inherited whole, as stretches of 500 kb nearly always are; several
regions are inherited apart and stand for places far from each other: each takes the haplotypes of other people. Reads
are drawn at the variants: their number is Poisson distributed, and one in 300 shows the other base.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.genomics.identity.common_places import CommonPlaces, Shown, choose_common
from fedcall.genomics.identity.comparison import score, verdict_of
from fedcall.simulation.people import People

KINDS = ("same", "parent and child", "siblings", "unrelated")
_ERROR, _STATED = 1 / 300, 30.0  # of a read's base, real and as its quality says
_APART = 50_000_000


@dataclass(frozen=True)
class RelativesRow:
    """What was said of pairs whose kinship is known.

    Attributes
    ----------
    regions, kilobases, depth : of each person
    found : share of the pairs of each of KINDS called "same person" or "relatives", whichever is right; of unrelated
        pairs the share called either
    pairs : of each kind
    cannot_tell : share of unrelated pairs that are called "cannot tell" and not "unrelated"
    """

    regions: int
    kilobases: int
    depth: float
    sites: int
    found: dict[str, float]
    pairs: dict[str, int]
    cannot_tell: float


def measure(people: People, regions: int, kilobases: int, depth: float, families: int, seed: int = 1) -> RelativesRow:
    """Make families of two parents, two children and a second sample of the first child, and compare everybody."""
    rng = np.random.default_rng([seed, regions, kilobases, int(10 * depth)])
    population = people.population
    is_snp = np.array([len(ref) == len(alt) == 1 for ref, alt in zip(population.refs, population.alts, strict=True)])
    kept = is_snp & (population.positions - population.positions[0] < 1_000 * kilobases)
    haplotypes, places = population.founders[:, kept], population.positions[kept]
    parts, members = [], 5 * families
    for _ in range(regions):
        parents = haplotypes.reshape(-1, 2, haplotypes.shape[1])[rng.permutation(len(people.names))[: 2 * families]]
        parts.append(np.concatenate([_family(parents[2 * k], parents[2 * k + 1], rng) for k in range(families)]))
    genotypes = np.concatenate(parts, 1)
    reads = rng.poisson(depth, genotypes.shape)
    second = rng.binomial(reads, np.choose(genotypes, [_ERROR, 0.5, 1 - _ERROR]))
    shown = Shown(reads - second, second, _STATED * (reads - second), _STATED * second)
    frequency, common = choose_common(shown)
    position = np.concatenate([places + _APART * number for number in range(regions)])[common]
    sites = CommonPlaces(
        np.zeros(len(position), np.int64),
        position,
        frequency[common],
        np.zeros(len(position), bool),
        shown.likelihoods[:, common],
    )
    pairs = np.array([(one, other) for one in range(members) for other in range(one + 1, members)])
    said = verdict_of(*score(sites, pairs))
    kinds = [_kind(one, other) for one, other in pairs.tolist()]
    found, counts = {}, {}
    for kind in KINDS:
        own = [verdict for verdict, is_kind in zip(said, kinds, strict=True) if is_kind == kind]
        right = {"same": ("same person",), "unrelated": ("same person", "relatives")}.get(kind, ("relatives",))
        found[kind], counts[kind] = sum(verdict in right for verdict in own) / len(own), len(own)
    untold = [verdict == "cannot tell" for verdict, kind in zip(said, kinds, strict=True) if kind == "unrelated"]
    return RelativesRow(regions, kilobases, depth, len(position), found, counts, sum(untold) / len(untold))


def table(rows: Sequence[RelativesRow]) -> str:
    """Return the rows as text of at most 100 columns."""
    lines = [
        f"{'regions':>7}{'kb each':>9}{'depth':>7}{'sites':>7}"
        f"{'same':>8}{'parent':>8}{'sibling':>9}{'false':>8}{'untold':>8}"
    ]
    for row in rows:
        shares = [f"{row.found[kind]:.3f}" for kind in KINDS]
        lines.append(
            f"{row.regions:>7}{row.kilobases:>9}{row.depth:>7g}{row.sites:>7}{shares[0]:>8}{shares[1]:>8}{shares[2]:>9}"
            f"{row.found['unrelated']:>8.4f}{row.cannot_tell:>8.3f}"
        )
    return "\n".join(lines)


def _family(mother: np.ndarray, father: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the genotypes of mother, father, two children, and the first child again: shape (5, sites)."""
    children = [mother[rng.integers(2)] + father[rng.integers(2)] for _ in range(2)]
    return np.stack([mother.sum(0), father.sum(0), *children, children[0]]).astype(np.int64)


def _kind(one: int, other: int) -> str:
    if one // 5 != other // 5:
        return "unrelated"
    first, second = one % 5, other % 5
    if second < 2:
        return "unrelated"
    if first < 2:
        return "parent and child"
    return "same" if (first, second) == (2, 4) else "siblings"
