"""What is wrong with simulated reads: sequencing errors, recurrent false sites, oxidised guanine.

All functions change blocks of reads in place. A block is `bases` uint8, `qualities` int16 and `positions` int64,
each of shape (reads, read length); bases are codes, positions are 0-based in the reference, -1 where inserted.
"""

from dataclasses import dataclass

import numpy as np

from fedcall.simulation.genome import Genome

MAX_QUALITY = 41
RECURRENT_PER_BASE = 1 / 700
OXIDISED_PER_BASE = 1 / 1_100
# Kinds of recurrent false sites: all three tell themselves by something else than the allele's share.
LOW_QUALITY, NEAR_END, ONE_STRAND = range(3)


@dataclass
class Reads:
    """A block of aligned reads, one row each, in the reference's orientation."""

    bases: np.ndarray
    qualities: np.ndarray
    positions: np.ndarray
    reverse: np.ndarray  # bool (reads,)
    second: np.ndarray  # bool (reads,): second read of the pair
    molecule: np.ndarray  # int64 (reads,): copies of one molecule share the number

    def cycles(self) -> np.ndarray:
        """Return int64 (reads, read length): the cycle in which each base was read, from 0."""
        columns = np.arange(self.bases.shape[1])
        return np.where(self.reverse[:, None], columns[::-1], columns)


@dataclass(frozen=True)
class RecurrentErrors:
    """Positions at which some reads show the same wrong base."""

    positions: np.ndarray  # int64 (sites,)
    bases: np.ndarray  # uint8 (sites,), the wrong base
    strengths: np.ndarray  # float64 (sites,), probability that a read that can show it does
    kinds: np.ndarray  # int8 (sites,); one of LOW_QUALITY, NEAR_END, ONE_STRAND (for `add_recurrent`)
    reverse: np.ndarray  # bool (sites,): the strand that shows it, where strand matters


def draw_recurrent(rng: np.random.Generator, genome: Genome) -> RecurrentErrors:
    """Return false sites that every person shows, whatever the chemistry."""
    count = max(1, int(len(genome.bases) * RECURRENT_PER_BASE))
    positions = np.sort(rng.choice(len(genome.bases), size=count, replace=False))
    return RecurrentErrors(
        positions,
        ((genome.bases[positions] + rng.integers(1, 4, size=count)) % 4).astype(np.uint8),
        rng.uniform(0.15, 0.45, size=count),
        rng.choice(3, size=count, p=[0.52, 0.4, 0.08]).astype(np.int8),
        rng.random(count) < 0.5,
    )


def draw_oxidised(rng: np.random.Generator, genome: Genome) -> RecurrentErrors:
    """Return one person's oxidised guanines: G read as T where the read has G, so C as A in reverse reads.

    CGG is favoured, as in exomes (Costello et al. 2013, figure 2: CCG > CAG in the other orientation).
    """
    bases = genome.bases
    before, after = np.roll(bases, 1), np.roll(bases, -1)
    guanine = np.where(bases == 2, 1.0 + 3.0 * ((before == 1) & (after == 2)), 0.0)
    guanine += np.where(bases == 1, 1.0 + 3.0 * ((after == 2) & (before == 1)), 0.0)
    count = max(1, int(rng.poisson(len(bases) * OXIDISED_PER_BASE)))
    positions = np.sort(rng.choice(len(bases), size=count, replace=False, p=guanine / guanine.sum()))
    is_cytosine = bases[positions] == 1
    return RecurrentErrors(
        positions,
        np.where(is_cytosine, 0, 3).astype(np.uint8),
        rng.uniform(0.45, 1.0, size=count),
        np.full(count, ONE_STRAND, dtype=np.int8),
        is_cytosine,
    )


def draw_qualities(rng: np.random.Generator, reads: Reads) -> None:
    """Give every base a quality: falling along the read, worse in second reads, with weak reads and weak bases."""
    shape = reads.bases.shape
    progress = reads.cycles() / shape[1]
    slope = np.where(reads.second, 8.0, 5.0)[:, None]
    quality = 38.5 - slope * progress**2 - rng.exponential(1.5, size=(shape[0], 1))
    quality += rng.standard_normal(shape, dtype=np.float32) * 2
    weak = rng.random(shape, dtype=np.float32) < 0.015
    quality[weak] -= rng.uniform(8, 28, size=int(weak.sum()))
    reads.qualities = np.clip(np.rint(quality), 2, MAX_QUALITY).astype(np.int16)


def add_sequencing_errors(rng: np.random.Generator, reads: Reads) -> None:
    """Replace each base by another with probability 10^(-quality / 10), so that qualities are calibrated."""
    probability = (10.0 ** (-np.arange(MAX_QUALITY + 1) / 10)).astype(np.float64)[reads.qualities]
    wrong = np.nonzero(rng.random(reads.bases.shape) < probability)
    reads.bases[wrong] = (reads.bases[wrong] + rng.integers(1, 4, size=len(wrong[0]))) % 4


def add_recurrent(rng: np.random.Generator, reads: Reads, sites: RecurrentErrors, genome: Genome) -> None:
    """Let reads show the recurrent false sites: with low quality, near their end, or on one strand."""
    row, column, site = _overlaps(reads, sites, genome)
    late = reads.cycles()[row, column] >= 0.8 * reads.bases.shape[1]
    kind, chance = sites.kinds[site], sites.strengths[site]
    chance = np.where(kind == NEAR_END, np.where(late, 2 * chance, 0.02), chance)
    chance = np.where((kind == ONE_STRAND) & (reads.reverse[row] != sites.reverse[site]), 0.0, chance)
    hit = rng.random(len(row)) < chance
    row, column, site, kind = row[hit], column[hit], site[hit], kind[hit]
    reads.bases[row, column] = sites.bases[site]
    drop = np.array([18, 6, 8])[kind] + rng.integers(0, 8, size=len(row))
    reads.qualities[row, column] = np.maximum(2, reads.qualities[row, column] - drop)


def add_oxidation(rng: np.random.Generator, reads: Reads, sites: RecurrentErrors, genome: Genome) -> None:
    """Let reads show oxidised guanine: on one strand, mostly in first reads, more in later cycles.

    The damage sits in the molecule, so PCR copies show it together; qualities are a few units below normal.
    """
    row, column, site = _overlaps(reads, sites, genome)
    chance = sites.strengths[site] * np.where(reads.second[row], 0.55, 1.0)
    chance = chance * (0.7 + 0.6 * reads.cycles()[row, column] / reads.bases.shape[1])
    salt = np.uint64(rng.integers(0, 2**63))
    same_strand = reads.reverse[row] == sites.reverse[site]
    intact = reads.bases[row, column] == genome.bases[sites.positions[site]]
    hit = same_strand & intact & (_uniform(reads.molecule[row], site, salt) < chance)
    row, column, site = row[hit], column[hit], site[hit]
    reads.bases[row, column] = sites.bases[site]
    lower = rng.integers(1, 7, size=len(row))
    reads.qualities[row, column] = np.maximum(15, reads.qualities[row, column] - lower)


def _overlaps(reads: Reads, sites: RecurrentErrors, genome: Genome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and site numbers of the bases that stand on a site."""
    number = np.full(len(genome.bases) + 1, -1, dtype=np.int32)  # the last one serves inserted bases (-1)
    number[sites.positions] = np.arange(len(sites.positions))
    found = number[reads.positions]
    row, column = np.nonzero(found >= 0)
    return row, column, found[row, column]


def _uniform(molecule: np.ndarray, site: np.ndarray, salt: np.uint64) -> np.ndarray:
    """Return a number in [0, 1) that depends on molecule and site only (SplitMix64, Steele et al. 2014)."""
    value = molecule.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + site.astype(np.uint64) + salt
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (value ^ (value >> np.uint64(31))) / 2.0**64
