"""People whose haplotypes are mosaics of a few ancestral ones, so that neighbouring sites are inherited together."""

import numpy as np

from fedcall.simulation.genome import Genome, Population
from fedcall.simulation.people import People

ANCESTORS, PIECE = 24, 30_000  # bases of a mosaic's piece, on average


def made_people(count: int, kilobases: int = 150, spacing: int = 400, seed: int = 3) -> People:
    """Return people with a common variant every `spacing` bases."""
    rng = np.random.default_rng(seed)
    length = 1000 * kilobases
    positions = np.sort(rng.choice(length, length // spacing, replace=False))
    sites = np.arange(len(positions))
    ancestors = (rng.random((ANCESTORS, len(sites))) < rng.uniform(0.1, 0.5, len(sites))).astype(np.uint8)
    founders = []
    for _ in range(2 * count):
        begins = np.where(rng.random(len(sites)) < spacing / PIECE, sites, 0)
        pieces = rng.integers(ANCESTORS, size=len(sites))[np.maximum.accumulate(begins)]
        founders.append(ancestors[pieces, sites])
    population = Population(positions, ("A",) * len(sites), ("C",) * len(sites), np.stack(founders))
    return People(tuple(f"p{number}" for number in range(count)), Genome(np.zeros(length, np.uint8), ()), population)
