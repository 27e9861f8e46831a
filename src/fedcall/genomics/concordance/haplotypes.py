"""Match two sets of variants of one person: by allele and copies first, then by the sequences they spell."""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

from fedcall.genomics.concordance.phasings import can_spell_the_same
from fedcall.genomics.concordance.records import Variant

WINDOW = 30
"""Variants at most this many bases apart are compared as one haplotype pair."""
_FINER_WINDOW = 10
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
        if len({side for _, side, _ in open_entries}) < 2:
            # What only one side has left may spell nothing (an insertion and a deletion that cancel); nobody called it.
            continue
        if attempt(cluster) or attempt(open_entries):
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
        reach = max(variant.end, variant.edit.end)
        contig, end = variant.contig, max(end, reach) if cluster else reach
        cluster.append(entry)
    if cluster:
        yield cluster


def _same_haplotypes(truth: Sequence[Variant], calls: Sequence[Variant], fetch: Fetch) -> bool:
    both = [*truth, *calls]
    start = max(0, min(min(variant.start, variant.edit.start) for variant in both) - _PADDING)
    end = max(max(variant.end, variant.edit.end) for variant in both) + _PADDING
    sequence = fetch(both[0].contig, start, end)
    changes = [(variant.edit, side, variant.dosage) for side, own in enumerate((truth, calls)) for variant in own]
    return can_spell_the_same(sorted(changes), sequence, start)
