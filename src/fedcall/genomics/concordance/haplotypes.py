"""Match two sets of variants of one person: by allele and copies first, then by the sequences they spell."""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import product

from fedcall.genomics.concordance.records import Variant

WINDOW = 30
"""Variants at most this many bases apart are compared as one haplotype pair."""
_FINER_WINDOW = 10
_MAX_HETEROZYGOUS = 8
_PADDING = 5

Fetch = Callable[[str, int, int], str]
"""Reference bases of (contig, start, end), upper case."""


class MatchLevel(IntEnum):
    """How a variant stands in the other set."""

    MISSING = 0
    ALLELE = 1
    GENOTYPE = 2


def match(
    truth: Sequence[Variant], calls: Sequence[Variant], fetch: Fetch
) -> tuple[list[MatchLevel], list[MatchLevel]]:
    """Say of each variant whether the other side has it.

    `GENOTYPE` if allele and copies agree, or if the variants of both sides within `WINDOW` bases can be phased to spell
    the same two sequences; `ALLELE` if only the copies differ. The set against itself is all `GENOTYPE`.

    Notes
    -----
    Comparing what variants spell instead of how they are written follows Cleary et al. 2015 (vcfeval) and Krusche et
    al. 2019 (best practices for benchmarking germline small variant calls), for unphased genotypes.
    """
    verdicts = (_by_allele(truth, calls), _by_allele(calls, truth))
    sides = [(variant, 0, index) for index, variant in enumerate(truth)]
    sides += [(variant, 1, index) for index, variant in enumerate(calls)]
    contigs = {contig: rank for rank, contig in enumerate(dict.fromkeys(entry[0].contig for entry in sides))}
    sides.sort(key=lambda entry: (contigs[entry[0].contig], entry[0].start, entry[0].end))

    def attempt(entries: list["_Entry"]) -> bool:
        spelled = [[variant for variant, side, _ in entries if side == wanted] for wanted in (0, 1)]
        if not (spelled[0] and spelled[1]) or not _same_haplotypes(spelled[0], spelled[1], fetch):
            return False
        for _, side, index in entries:
            verdicts[side][index] = MatchLevel.GENOTYPE
        return True

    for cluster in _clusters(sides, WINDOW):
        open_entries = [entry for entry in cluster if verdicts[entry[1]][entry[2]] is not MatchLevel.GENOTYPE]
        if not open_entries or attempt(cluster) or attempt(open_entries):
            continue
        # One wrong call must not spoil the equivalent ones near it.
        for part in _clusters(open_entries, _FINER_WINDOW):
            attempt(part)
    return verdicts


_Entry = tuple[Variant, int, int]


def _by_allele(variants: Sequence[Variant], others: Sequence[Variant]) -> list[MatchLevel]:
    dosages = {other.key: other.dosage for other in others}
    return [
        MatchLevel.MISSING
        if variant.key not in dosages
        else MatchLevel.GENOTYPE
        if dosages[variant.key] == variant.dosage
        else MatchLevel.ALLELE
        for variant in variants
    ]


def _clusters(entries: Sequence[_Entry], window: int) -> Iterator[list[_Entry]]:
    cluster: list[_Entry] = []
    contig, end = "", 0
    for entry in entries:
        variant = entry[0]
        if cluster and (variant.contig != contig or variant.start - end > window):
            yield cluster
            cluster = []
        contig, end = variant.contig, max(end, variant.end) if cluster else variant.end
        cluster.append(entry)
    if cluster:
        yield cluster


def _same_haplotypes(truth: Sequence[Variant], calls: Sequence[Variant], fetch: Fetch) -> bool:
    both = [*truth, *calls]
    start = max(0, min(variant.start for variant in both) - _PADDING)
    sequence = fetch(both[0].contig, start, max(variant.end for variant in both) + _PADDING)
    wanted = _haplotype_pairs(truth, sequence, start)
    return bool(wanted) and not wanted.isdisjoint(_haplotype_pairs(calls, sequence, start))


def _haplotype_pairs(variants: Sequence[Variant], sequence: str, start: int) -> set[tuple[str, str]]:
    """Return every unordered pair of sequences the variants can spell, over all phasings."""
    homozygous = [variant for variant in variants if variant.dosage == 2]
    heterozygous = [variant for variant in variants if variant.dosage == 1]
    if len(heterozygous) > _MAX_HETEROZYGOUS:
        return set()
    pairs = set()
    for phases in product((0, 1), repeat=max(len(heterozygous) - 1, 0)):
        # The first one's phase is free: the pair has no order.
        phased = list(zip(heterozygous, (0, *phases), strict=False))
        haplotypes = [
            _spell([*homozygous, *(variant for variant, phase in phased if phase == wanted)], sequence, start)
            for wanted in (0, 1)
        ]
        if haplotypes[0] is not None and haplotypes[1] is not None:
            pairs.add((min(haplotypes[0], haplotypes[1]), max(haplotypes[0], haplotypes[1])))
    return pairs


def _spell(variants: Sequence[Variant], sequence: str, start: int) -> str | None:
    """Return the sequence with all variants on it, or None if two of them change the same bases."""
    edits = sorted(_edit(variant, start) for variant in variants)
    spelled, cursor = [], 0
    previous = None
    for begin, end, alt in edits:
        if begin < cursor or (begin, begin) == previous:
            return None
        spelled += [sequence[cursor:begin], alt]
        cursor, previous = end, (begin, end)
    return "".join([*spelled, sequence[cursor:]])


def _edit(variant: Variant, start: int) -> tuple[int, int, str]:
    """Return (begin, end, replacement) without the base that VCF puts before an indel."""
    begin, ref, alt = variant.start - start, variant.ref, variant.alt
    while ref and alt and ref[0] == alt[0]:
        begin, ref, alt = begin + 1, ref[1:], alt[1:]
    return begin, begin + len(ref), alt
