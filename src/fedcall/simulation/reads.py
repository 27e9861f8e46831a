"""Paired reads from haplotypes, aligned where they come from, as SAM text."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedcall.simulation.errors import (
    Reads,
    RecurrentErrors,
    add_oxidation,
    add_recurrent,
    add_sequencing_errors,
    draw_qualities,
)
from fedcall.simulation.genome import Genome, Haplotype, drift, run_lengths

CONTIG = "sim1"  # the one contig of a simulated reference
READ_LENGTH = 125
FRAGMENT_MEAN, FRAGMENT_SD = 330, 50
DUPLICATE_SHARE = 0.07
CHUNK_FRAGMENTS = 20_000  # bounds memory: about 100 MB at a time
HIDDEN_DRIFT = 0.01
HIDDEN_DEPTH = 0.3  # of the mean depth: reads of copies the reference lacks
EDGE = 8  # an aligner does not open a gap for fewer bases than this at the end of a read


@dataclass(frozen=True)
class DepthProfile:
    """Relative depth along the contig: cumulative weight at every base, float64 (length + 1,), from 0 to 1."""

    cumulative: np.ndarray

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return int64 (count,): positions drawn in proportion to the depth."""
        return np.searchsorted(self.cumulative, rng.random(count), side="right") - 1

    def combined(self, other: "DepthProfile") -> "DepthProfile":
        """Return the profile whose depth is the product of both."""
        return _profile(np.diff(self.cumulative) * np.diff(other.cumulative))


def draw_profile(rng: np.random.Generator, length: int, knot_spacing: int, deviation: float) -> DepthProfile:
    """Return a smooth log-normal depth with the given standard deviation of its logarithm."""
    knots = rng.standard_normal(length // knot_spacing + 2) * deviation
    return _profile(np.exp(np.interp(np.arange(length) / knot_spacing, np.arange(len(knots)), knots)))


def hidden_copies(rng: np.random.Generator, genome: Genome) -> list[Haplotype]:
    """Return drifted further copies of the duplicated segments, which people have and the reference lacks."""
    return [
        Haplotype(
            drift(rng, genome.bases[copy.first : copy.first + copy.length], HIDDEN_DRIFT),
            np.arange(copy.first, copy.first + copy.length),
        )
        for copy in genome.duplications
    ]


@dataclass(frozen=True)
class Library:
    """What one preparation and sequencing of a person's DNA does to the reads.

    Attributes
    ----------
    profile : where reads lie
    recurrent : places at which everybody's reads err
    oxidised : damage of the chemistry; None for a chemistry without it
    read_group : its name
    """

    profile: DepthProfile
    recurrent: RecurrentErrors
    oxidised: RecurrentErrors | None
    read_group: str


def sequence(
    rng: np.random.Generator,
    genome: Genome,
    haplotypes: list[Haplotype],
    hidden: list[Haplotype],
    depth: float,
    library: Library,
) -> Iterator[str]:
    """Yield blocks of SAM records of one person, unsorted.

    Parameters
    ----------
    haplotypes : list of Haplotype
        The person's two copies of the contig; each gets half the depth.
    hidden : list of Haplotype
        Copies the reference lacks: their reads pile up elsewhere with low mapping quality.
    depth : float
        Mean depth in reads, before PCR copies are added.
    """
    sources = [(haplotype, depth / len(haplotypes), False) for haplotype in haplotypes]
    sources += [(copy, depth * HIDDEN_DEPTH, True) for copy in hidden]
    written = 0
    for source, share, is_hidden in sources:
        wanted = int(rng.poisson(share * len(source.bases) / (2 * READ_LENGTH)))
        for first in range(0, wanted, CHUNK_FRAGMENTS):
            count = min(CHUNK_FRAGMENTS, wanted - first)
            fragments = _draw_fragments(rng, source, None if is_hidden else library.profile, count, written)
            reads = _read(rng, source, fragments)
            draw_qualities(rng, reads)
            add_sequencing_errors(rng, reads)
            add_recurrent(rng, reads, library.recurrent, genome)
            if library.oxidised is not None:
                add_oxidation(rng, reads, library.oxidised, genome)
            lines = _Alignments(rng, genome, reads, is_hidden, library.read_group, written).lines()
            written += len(fragments.starts)
            yield "".join(lines)


@dataclass(frozen=True)
class _Fragments:
    starts: np.ndarray  # int64 (n,), in the haplotype
    lengths: np.ndarray  # int64 (n,)
    flipped: np.ndarray  # bool (n,): the first read of the pair is the right one
    molecule: np.ndarray  # int64 (n,)


def _draw_fragments(
    rng: np.random.Generator, source: Haplotype, profile: DepthProfile | None, count: int, first_molecule: int
) -> _Fragments:
    """Return fragments with PCR copies among them."""
    size = len(source.bases)
    lengths = np.clip(np.rint(rng.normal(FRAGMENT_MEAN, FRAGMENT_SD, size=count)), READ_LENGTH + 5, 600)
    lengths = np.minimum(lengths, size).astype(np.int64)
    # Haplotype and reference differ by a few inserted and deleted bases: near enough for a depth.
    starts = rng.integers(0, size, size=count) if profile is None else profile.draw(rng, count) - lengths // 2
    starts = np.clip(starts, 0, size - lengths)
    flipped = rng.random(count) < 0.5
    copied = rng.integers(0, max(count, 1), size=int(count * DUPLICATE_SHARE))
    chosen = np.concatenate([np.arange(count), copied])
    return _Fragments(starts[chosen], lengths[chosen], flipped[chosen], first_molecule + chosen)


def _read(rng: np.random.Generator, source: Haplotype, fragments: _Fragments) -> Reads:
    """Return the two reads of every fragment (left ones first), with homopolymer length errors."""
    count = len(fragments.starts)
    starts = np.concatenate([fragments.starts, fragments.starts + fragments.lengths - READ_LENGTH])
    columns = np.arange(READ_LENGTH)
    index = starts[:, None] + columns
    inserted = np.zeros(index.shape, dtype=bool)
    # Probability that a read gets a homopolymer's length wrong: 0.03 % at 4 bases, 0.5 % at 8, 8 % at 12.
    runs = run_lengths(source.bases)
    error = np.where(runs >= 4, np.minimum(0.15, 3e-4 * 2.0 ** (runs - 4)), 0.0)
    hazard = np.concatenate([[0.0], np.cumsum(-np.log1p(-error))])
    total = hazard[starts + READ_LENGTH - 1] - hazard[starts + 1]
    for row in np.flatnonzero(rng.random(2 * count) < -np.expm1(-total)):
        start = int(starts[row])
        place = int(np.searchsorted(hazard, hazard[start + 1] + rng.random() * total[row], side="right")) - 1
        column = place - start
        if rng.random() < 0.65:
            index[row, column:] += 1
        else:
            index[row, column + 1 :] -= 1
            inserted[row, column] = True
    index = np.minimum(index, len(source.bases) - 1)
    return Reads(
        bases=source.bases[index],
        qualities=np.zeros(index.shape, dtype=np.int16),
        positions=np.where(inserted, -1, source.positions[index]),
        reverse=np.repeat([False, True], count),
        second=np.concatenate([fragments.flipped, ~fragments.flipped]),
        molecule=np.concatenate([fragments.molecule, fragments.molecule]),
    )


class _Alignments:
    """The SAM records of a block of read pairs."""

    def __init__(
        self, rng: np.random.Generator, genome: Genome, reads: Reads, is_hidden: bool, read_group: str, first: int
    ) -> None:
        self.genome, self.reads, self.read_group, self.first = genome, reads, read_group, first
        self.pairs = len(reads.bases) // 2
        self.mapping_quality, self.shift = self._place(rng, is_hidden)

    def lines(self) -> list[str]:
        """Return one line per read."""
        reads = self.reads
        starts, ends, cigars = self._cigars()
        bases = np.frombuffer(b"ACGT", dtype=np.uint8)[reads.bases].tobytes().decode()
        qualities = (reads.qualities + 33).astype(np.uint8).tobytes().decode()
        flags = 0x1 | 0x2 | np.where(reads.reverse, 0x10, 0x20) | np.where(reads.second, 0x80, 0x40)
        lines = []
        for row in range(2 * self.pairs):
            pair, mate = row % self.pairs, (row + self.pairs) % (2 * self.pairs)
            left, right = min(starts[row], starts[mate]), max(ends[row], ends[mate])
            span = right - left if row < self.pairs else left - right
            shift, text = int(self.shift[pair]), slice(row * READ_LENGTH, (row + 1) * READ_LENGTH)
            lines.append(
                f"{self.read_group}:{self.first + pair}\t{flags[row]}\t{CONTIG}\t{starts[row] + shift + 1}"
                f"\t{self.mapping_quality[pair]}\t{cigars[row]}\t=\t{starts[mate] + shift + 1}\t{span}"
                f"\t{bases[text]}\t{qualities[text]}\tRG:Z:{self.read_group}\n"
            )
        return lines

    def _place(self, rng: np.random.Generator, is_hidden: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return mapping quality and displacement of every pair, by what tells two copies apart."""
        quality = np.where(rng.random(self.pairs) < 0.03, rng.integers(20, 60, size=self.pairs), 60)
        shift = np.zeros(self.pairs, dtype=np.int64)
        if is_hidden:
            return np.clip(np.rint(rng.normal(14, 6, size=self.pairs)), 1, 40).astype(int), shift
        left = self.reads.positions[: self.pairs].max(axis=1) - READ_LENGTH + 1
        right = self.reads.positions[self.pairs :].max(axis=1)
        for copy in self.genome.duplications:
            differs = (
                self.genome.bases[copy.first : copy.first + copy.length]
                != self.genome.bases[copy.second : copy.second + copy.length]
            )
            seen = np.concatenate([[0], np.cumsum(differs)])
            for here, there in ((copy.first, copy.second), (copy.second, copy.first)):
                inside = np.flatnonzero((left >= here) & (right < here + copy.length))
                apart = seen[right[inside] - here] - seen[left[inside] - here]
                odds = rng.random(len(inside))
                quality[inside] = np.select(
                    [apart == 0, apart == 1, apart == 2],
                    [0, rng.integers(3, 16, size=len(inside)), rng.integers(15, 38, size=len(inside))],
                    quality[inside],
                )
                wrong = odds < np.select([apart == 0, apart == 1, apart == 2], [0.5, 0.12, 0.02], 0.0)
                shift[inside[wrong]] = there - here
        return quality, shift

    def _cigars(self) -> tuple[list[int], list[int], list[str]]:
        """Return reference start, end and CIGAR of every read (before displacement)."""
        positions = self.reads.positions
        plain = (positions[:, 0] >= 0) & (np.diff(positions, axis=1) == 1).all(axis=1)
        starts, ends = positions[:, 0].tolist(), (positions[:, -1] + 1).tolist()
        cigars = [f"{READ_LENGTH}M"] * len(positions)
        for row in np.flatnonzero(~plain):
            starts[row], ends[row], cigars[row] = align_row(positions[row], self.reads.bases[row], self.genome.bases)
        return starts, ends, cigars


def align_row(positions: np.ndarray, bases: np.ndarray, reference: np.ndarray) -> tuple[int, int, str]:
    """Return start, end (0-based, half-open) and CIGAR of a read with gaps, as an aligner would write it.

    A gap within `EDGE` bases of an end does not pay: those bases are aligned without it if at most one mismatches,
    and clipped otherwise.

    Parameters
    ----------
    positions : int64 (length,)
        True reference position of each base, -1 where inserted.
    bases : uint8 (length,)
        Base codes of the read.
    reference : uint8 (contig,)
        Base codes of the contig.
    """
    positions = positions.copy()
    size = len(positions)
    gap = (np.diff(positions) != 1) | (positions[:-1] < 0) | (positions[1:] < 0)  # between column i and i + 1
    operations = np.full(size, "M")
    early = np.flatnonzero(gap[:EDGE])
    if len(early):
        last = int(early[-1])
        while positions[last + 1] < 0:
            last += 1
        _settle_edge(positions, operations, slice(0, last + 1), positions[last + 1] - last - 1, bases, reference)
    late = np.flatnonzero(gap[size - 1 - EDGE :])
    if len(late):
        first = size - 1 - EDGE + int(late[0])
        while positions[first] < 0:
            first -= 1
        _settle_edge(positions, operations, slice(first + 1, size), positions[first] - first, bases, reference)
    operations[(positions < 0) & (operations == "M")] = "I"
    aligned = operations == "M"
    breaks = (operations[1:] != operations[:-1]) | (aligned[1:] & aligned[:-1] & (np.diff(positions) != 1))
    bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), size]
    cigar, previous = "", -1
    for begin, end in pairwise(bounds):
        if aligned[begin]:
            if previous >= 0 and positions[begin] > previous + 1:
                cigar += f"{positions[begin] - previous - 1}D"
            previous = int(positions[end - 1])
        cigar += f"{end - begin}{operations[begin]}"
    start = int(positions[operations == "M"][0])
    return start, previous + 1, cigar


def _settle_edge(
    positions: np.ndarray,
    operations: np.ndarray,
    edge: slice,
    offset: int,
    bases: np.ndarray,
    reference: np.ndarray,
) -> None:
    """Align the bases of `edge` without a gap (column + offset) if that fits, or clip them."""
    straight = np.arange(len(positions))[edge] + offset
    fits = straight[0] >= 0 and straight[-1] < len(reference)
    if fits and np.count_nonzero(reference[straight] != bases[edge]) <= 1:
        positions[edge] = straight
    else:
        operations[edge] = "S"


def _profile(depth: np.ndarray) -> DepthProfile:
    cumulative = np.concatenate([[0.0], np.cumsum(depth)])
    return DepthProfile(cumulative / cumulative[-1])
