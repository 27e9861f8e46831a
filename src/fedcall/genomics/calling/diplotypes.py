"""From posteriors of single candidates to genotypes that one person can have.

Each candidate has its own posterior over 0, 1 and 2 copies, as if it were alone. Together they must not claim more than
two copies of any stretch of the genome: two alternative bases at one position, or a base inside a deleted stretch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product, zip_longest

import numpy as np

PLOIDY = 2
_FLOOR = 1e-30
_EXACT = 8


@dataclass(frozen=True)
class Candidate:
    """One alternative allele with its posterior.

    Attributes
    ----------
    start : int
        0-based position of the first base of `ref`.
    ref, alt : str
        Left-aligned and minimal.
    posterior : tuple of float
        Probabilities of 0, 1 and 2 copies.
    depth, ref_depth, alt_depth : int
        Reads over the position, and those that show either allele.
    """

    start: int
    ref: str
    alt: str
    posterior: tuple[float, float, float]
    depth: int
    ref_depth: int
    alt_depth: int

    @cached_property
    def dosage(self) -> int:
        """The most probable number of copies; the smaller of equally probable ones."""
        return self.posterior.index(max(self.posterior))

    @property
    def is_indel(self) -> bool:
        """Whether the two alleles differ in length."""
        return len(self.ref) != len(self.alt)

    @cached_property
    def slots(self) -> tuple[int, int]:
        """Half-open stretch of the genome that no third allele may take.

        Base b of the reference is slot 2b + 1, the gap before it is slot 2b: an insertion takes a gap, a deletion its
        bases with the gaps before each of them, and neither takes the base that VCF puts before it.
        """
        if not self.is_indel:
            return 2 * self.start + 1, 2 * (self.start + len(self.ref))
        first = self.start + 1
        return 2 * first, max(2 * first + 1, 2 * (self.start + len(self.ref)))


@dataclass(frozen=True)
class CallRecord:
    """One record of a VCF: alleles at one position, and the probability of each pair of them.

    Attributes
    ----------
    start : int
        0-based.
    alleles : tuple of str
        REF, then the alternatives.
    genotype : tuple of two int, or of one where there is one copy of the genome
        Indices of alleles, ascending.
    probabilities : float64, shape (k,)
        Of the genotypes 0/0, 0/1, 1/1, 0/2, 1/2, 2/2, … (order of VCF 4.3, section 1.6.2), or of
        the alleles; sums to 1.
    depth : int
    allele_depths : tuple of int
        Reads of each allele.
    """

    start: int
    alleles: tuple[str, ...]
    genotype: tuple[int, ...]
    probabilities: np.ndarray
    depth: int
    allele_depths: tuple[int, ...]


def call_records(candidates: Sequence[Candidate]) -> Iterator[CallRecord]:
    """Yield the records of one contig's candidates, in order; positions whose best genotype is 0/0 are left out.

    The genotypes are those with the largest product of posteriors among the possible ones. Alleles of one kind at one
    position share a record. A substitution and an indel after the same base do not exclude each other and stand in two
    records, unless together they have more than two copies: then the haplotypes are spelled out in one record.
    """
    chosen = sorted(
        (candidate for candidate in candidates if candidate.dosage > 0),
        key=lambda candidate: (candidate.start, len(candidate.ref), candidate.ref, candidate.alt),
    )
    at: dict[int, list[tuple[Candidate, int]]] = {}
    for candidate, dosage in _possible(chosen):
        if dosage:
            at.setdefault(candidate.start, []).append((candidate, dosage))
    for start in sorted(at):
        called = at[start]
        substitutions = [entry for entry in called if not entry[0].is_indel]
        indels = [entry for entry in called if entry[0].is_indel]
        if substitutions and indels and sum(dosage for _, dosage in called) > PLOIDY:
            yield _composite(substitutions, indels)
            continue
        for entries in (substitutions, indels):
            if entries:
                yield _record([(candidate,) for candidate, dosage in entries for _ in range(dosage)])


def _possible(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, int]]:
    """Yield candidates with the dosages of the most probable possible combination.

    Copies that what is called elsewhere over the same bases leaves no room for lose their probability.
    """
    for cluster in _overlapping(candidates):
        if len(cluster) == 1:  # as nearly all are: nothing else is called over its bases
            yield cluster[0], cluster[0].dosage
            continue
        dosages = _best_dosages(cluster)
        for index, candidate in enumerate(cluster):
            elsewhere = [
                0 if (other.start, other.is_indel) == (candidate.start, candidate.is_indel) else dosage
                for other, dosage in zip(cluster, dosages, strict=True)
            ]
            room = PLOIDY - _stacked(cluster, elsewhere, candidate.slots)
            posterior = [value if copies <= room else 0.0 for copies, value in enumerate(candidate.posterior)]
            yield replace(candidate, posterior=(posterior[0], posterior[1], posterior[2])), dosages[index]


def _overlapping(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    cluster: list[Candidate] = []
    end = -1
    for candidate in sorted(candidates, key=lambda candidate: candidate.slots):
        if cluster and candidate.slots[0] >= end:
            yield cluster
            cluster, end = [], -1
        cluster.append(candidate)
        end = max(end, candidate.slots[1])
    if cluster:
        yield cluster


def _best_dosages(cluster: Sequence[Candidate]) -> list[int]:
    """Return the possible dosages with the largest product of posteriors; in crowds, the surest candidates first."""
    wanted = [candidate.dosage for candidate in cluster]
    if _is_possible(cluster, wanted):
        return wanted
    logs = [np.log(np.maximum(candidate.posterior, _FLOOR)) for candidate in cluster]
    if len(cluster) <= _EXACT:
        # More copies than a candidate wants never help: every other candidate would have less room.
        options = product(*(range(dosage, -1, -1) for dosage in wanted))
        possible = (dosages for dosages in options if _is_possible(cluster, dosages))
        return list(max(possible, key=lambda dosages: sum(log[d] for log, d in zip(logs, dosages, strict=True))))
    dosages = [0] * len(cluster)
    for index in sorted(range(len(cluster)), key=lambda index: logs[index][0] - logs[index][wanted[index]]):
        room = PLOIDY - _stacked(cluster, dosages, cluster[index].slots)
        dosages[index] = int(np.argmax(logs[index][: min(room, wanted[index]) + 1]))
    return dosages


def _is_possible(cluster: Sequence[Candidate], dosages: Sequence[int]) -> bool:
    return all(_stacked(cluster, dosages, candidate.slots) <= PLOIDY for candidate in cluster)


def _stacked(cluster: Sequence[Candidate], dosages: Sequence[int], slots: tuple[int, int]) -> int:
    """Return the largest number of copies over any slot of a stretch."""
    spans = [(candidate.slots, dosage) for candidate, dosage in zip(cluster, dosages, strict=True) if dosage]
    # The number changes only where a stretch begins.
    points = [slots[0], *(begin for (begin, _), _ in spans if slots[0] < begin < slots[1])]
    return max(sum(dosage for (begin, end), dosage in spans if begin <= point < end) for point in points)


_Called = Sequence[tuple[Candidate, int]]


def _composite(substitutions: _Called, indels: _Called) -> CallRecord:
    bases = [candidate for candidate, dosage in substitutions for _ in range(dosage)]
    changes = [candidate for candidate, dosage in indels for _ in range(dosage)]
    pairs = zip_longest(bases, changes)
    return _record([tuple(candidate for candidate in pair if candidate is not None) for pair in pairs])


def _record(haplotypes: Sequence[tuple[Candidate, ...]]) -> CallRecord:
    """Build the record of one or two haplotypes that differ from the reference; each carries one or two candidates."""
    if len(haplotypes[0]) == 1 and haplotypes[0] == haplotypes[-1]:
        return _record_of_one(haplotypes[0][0], len(haplotypes))
    alternatives = list(dict.fromkeys(haplotypes))
    carried: list[tuple[Candidate, ...]] = [(), *alternatives]
    candidates = list(dict.fromkeys(candidate for haplotype in haplotypes for candidate in haplotype))
    ref = max((candidate.ref for candidate in candidates), key=len)
    probabilities = np.array(
        [
            np.prod([max(c.posterior[carried[i].count(c) + carried[j].count(c)], _FLOOR) for c in candidates])
            for j in range(len(carried))
            for i in range(j + 1)
        ]
    )
    indices = sorted(carried.index(haplotype) for haplotype in haplotypes)
    return CallRecord(
        start=candidates[0].start,
        alleles=(ref, *(_spell(haplotype, ref) for haplotype in alternatives)),
        genotype=(indices[0], indices[1]) if len(indices) == PLOIDY else (0, indices[0]),
        probabilities=probabilities / probabilities.sum(),
        depth=max(candidate.depth for candidate in candidates),
        allele_depths=(
            min(candidate.ref_depth for candidate in candidates),
            *(min(candidate.alt_depth for candidate in haplotype) for haplotype in alternatives),
        ),
    )


def _record_of_one(candidate: Candidate, dosage: int) -> CallRecord:
    """Build the record of one candidate, as most are: what `_record` says of it, without the combinations."""
    none, one, two = (max(value, _FLOOR) for value in candidate.posterior)
    total = none + one + two
    return CallRecord(
        start=candidate.start,
        alleles=(candidate.ref, candidate.alt),
        genotype=(1, 1) if dosage == PLOIDY else (0, 1),
        probabilities=np.array((none / total, one / total, two / total)),
        depth=candidate.depth,
        allele_depths=(candidate.ref_depth, candidate.alt_depth),
    )


def _spell(haplotype: tuple[Candidate, ...], ref: str) -> str:
    if len(haplotype) == 1:
        return haplotype[0].alt + ref[len(haplotype[0].ref) :]
    # A substitution of one base, and an indel that keeps this base.
    substitution, indel = haplotype
    return substitution.alt + indel.alt[1:] + ref[len(indel.ref) :]
