"""A random reference, the variants of a population over it, and the haplotypes of its people.

Bases are codes: 0 A, 1 C, 2 G, 3 T.
"""

from dataclasses import dataclass

import numpy as np

BASES = "ACGT"
TRANSITION = np.array([2, 3, 0, 1], dtype=np.uint8)  # A<->G, C<->T
FOUNDERS = 100
SITES_PER_BASE = 1 / 180
INDEL_SHARE = 0.12
MIN_SPACING = 20  # bases between variants, so that every one keeps its own left-aligned record
SEGMENT_LENGTH = 8_000  # mean length inherited from one founder, bases


@dataclass(frozen=True)
class Duplication:
    """Two copies of one segment, and how far the second has drifted."""

    first: int
    second: int
    length: int


@dataclass(frozen=True)
class Genome:
    """A reference of one contig: base codes, uint8, shape (length,)."""

    bases: np.ndarray
    duplications: tuple[Duplication, ...]

    def text(self, start: int, end: int) -> str:
        """Return the bases of a half-open span as letters."""
        return spell(self.bases[start:end])


@dataclass(frozen=True)
class Population:
    """Variant sites (left-aligned, sorted, apart) and who among the founders carries them."""

    positions: np.ndarray  # int64 (sites,), 0-based start of REF
    refs: tuple[str, ...]
    alts: tuple[str, ...]
    founders: np.ndarray  # uint8 (founders, sites), 1 = carries ALT


@dataclass(frozen=True)
class Haplotype:
    """One copy of the contig: its bases and where each stands in the reference (-1: inserted)."""

    bases: np.ndarray  # uint8 (length,)
    positions: np.ndarray  # int64 (length,)


def spell(codes: np.ndarray) -> str:
    """Return base codes as letters."""
    letters: str = np.frombuffer(BASES.encode(), dtype=np.uint8)[codes].tobytes().decode()
    return letters


def encode_bases(text: str) -> np.ndarray:
    """Return letters ACGT as base codes."""
    return np.array([BASES.index(letter) for letter in text], dtype=np.uint8)


def make_genome(rng: np.random.Generator, length: int) -> Genome:
    """Return a random reference with homopolymers, tandem repeats and drifted duplicate segments."""
    bases = rng.choice(4, size=length, p=[0.295, 0.205, 0.205, 0.295]).astype(np.uint8)
    for start in rng.integers(0, max(1, length - 40), size=length // 150):
        run = min(14, 4 + int(rng.geometric(0.35)))
        bases[start : start + run] = bases[start]
    for start in rng.integers(0, max(1, length - 60), size=length // 1_500):
        unit = rng.integers(0, 4, size=int(rng.integers(2, 5))).astype(np.uint8)
        repeat = np.tile(unit, int(rng.integers(4, 11)))[: length - start]
        bases[start : start + len(repeat)] = repeat
    duplications = []
    stride = 10_000
    for block in range(0, length - stride + 1, stride):
        # First copy in the first half of the block, second in the other: copies never overlap.
        size = int(rng.integers(500, 800))
        first = block + int(rng.integers(500, stride // 2 - size))
        second = block + int(rng.integers(stride // 2, stride - size - 500))
        bases[second : second + size] = drift(rng, bases[first : first + size], 0.01)
        duplications.append(Duplication(first, second, size))
    return Genome(bases, tuple(duplications))


def drift(rng: np.random.Generator, bases: np.ndarray, share: float) -> np.ndarray:
    """Return a copy in which about `share` of the bases are others."""
    changed = rng.random(len(bases)) < share
    return np.where(changed, (bases + rng.integers(1, 4, size=len(bases))) % 4, bases).astype(np.uint8)


def run_lengths(bases: np.ndarray) -> np.ndarray:
    """Return int64 (length,): at the first base of every homopolymer its length, elsewhere 0."""
    starts = np.flatnonzero(np.diff(bases, prepend=255) != 0)
    lengths = np.zeros(len(bases), dtype=np.int64)
    lengths[starts] = np.diff(starts, append=len(bases))
    return lengths


def make_population(rng: np.random.Generator, genome: Genome) -> Population:
    """Return variant sites with the neutral frequency spectrum (a site with i carriers has weight 1/i)."""
    runs = run_lengths(genome.bases)
    sites: list[tuple[int, str, str]] = []
    position, free_from = 30, 0
    while True:
        position += MIN_SPACING + int(rng.exponential(1 / SITES_PER_BASE - MIN_SPACING))
        if position > len(genome.bases) - 60:
            break
        start, ref, alt = _site(rng, genome, runs, position)
        if start >= free_from and start + len(ref) < len(genome.bases) - 30:
            sites.append((start, ref, alt))
            free_from = start + len(ref) + MIN_SPACING
            position = max(position, start)
    # Stratified draws: cohorts of any seed have about equally many variants per person.
    spectrum = np.cumsum(1 / np.arange(1, FOUNDERS))
    draws = (np.arange(len(sites)) + rng.random(len(sites))) / max(1, len(sites))
    counts = 1 + np.searchsorted(spectrum / spectrum[-1], rng.permutation(draws), side="right")
    ranks = rng.random((FOUNDERS, len(sites))).argsort(axis=0)
    return Population(
        np.array([start for start, _, _ in sites], dtype=np.int64),
        tuple(ref for _, ref, _ in sites),
        tuple(alt for _, _, alt in sites),
        (ranks < counts).astype(np.uint8),
    )


def draw_alleles(rng: np.random.Generator, population: Population) -> np.ndarray:
    """Return uint8 (2, sites): one person's two haplotypes, each a mosaic of founders (Li and Stephens 2003)."""
    sites = len(population.positions)
    gaps = np.diff(population.positions, prepend=population.positions[:1])
    alleles = np.zeros((2, sites), dtype=np.uint8)
    for haplotype in range(2):
        switches = rng.random(sites) < 1 - np.exp(-gaps / SEGMENT_LENGTH)
        founders = rng.integers(0, FOUNDERS, size=sites + 1)[np.cumsum(switches)]
        alleles[haplotype] = population.founders[founders, np.arange(sites)]
    return alleles


def build_haplotype(genome: Genome, population: Population, carried: np.ndarray) -> Haplotype:
    """Return the reference with the carried variants put in; `carried` is uint8 (sites,)."""
    bases, positions, copied = [], [], 0
    for site in np.flatnonzero(carried):
        start, ref, alt = int(population.positions[site]), population.refs[site], population.alts[site]
        bases += [genome.bases[copied:start], encode_bases(alt)]
        # ALT's first base stands where REF's does; what it has more is inserted.
        positions += [np.arange(copied, start), np.array([start] + [-1] * (len(alt) - 1))]
        copied = start + len(ref)
    bases.append(genome.bases[copied:])
    positions.append(np.arange(copied, len(genome.bases)))
    return Haplotype(np.concatenate(bases), np.concatenate(positions).astype(np.int64))


def _site(rng: np.random.Generator, genome: Genome, runs: np.ndarray, position: int) -> tuple[int, str, str]:
    if rng.random() >= INDEL_SHARE:
        ref = int(genome.bases[position])
        alt = int(TRANSITION[ref]) if rng.random() < 2 / 3 else (int(TRANSITION[ref]) + int(rng.choice([1, 3]))) % 4
        return position, BASES[ref], BASES[alt]
    near = np.flatnonzero(runs[position : position + 200] >= 4)
    if len(near) and rng.random() < 0.5:
        run = position + int(near[0])
        inserted, deleted = genome.text(run, run + 1), 1
    else:
        run, deleted = position + 1, min(10, int(rng.geometric(0.45)))
        inserted = spell(rng.integers(0, 4, size=deleted).astype(np.uint8))
    anchor = genome.text(run - 1, run)
    if rng.random() < 0.5:
        return left_align(genome, run - 1, anchor, anchor + inserted)
    return left_align(genome, run - 1, genome.text(run - 1, run + deleted), anchor)


def left_align(genome: Genome, position: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Return an indel shifted left as far as it goes (Tan, Abecasis and Kang 2015)."""
    while position > 0 and ref[-1] == alt[-1]:
        position -= 1
        before = genome.text(position, position + 1)
        ref, alt = before + ref[:-1], before + alt[:-1]
    return position, ref, alt
