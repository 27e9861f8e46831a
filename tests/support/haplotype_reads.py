"""Reads of a haplotype whose variants lie close to each other, aligned as they are spelled."""

import random

from tiny_alignments import Read

SEQUENCE = "".join(random.Random(7).choices("ACGT", k=1_200))
LENGTH, PLACE = 150, 600


def other(base: str) -> str:
    return {"A": "C", "C": "G", "G": "T", "T": "A"}[base]


def snps(*places: int) -> list[tuple[int, str, str]]:
    return [(at, SEQUENCE[at], other(SEQUENCE[at])) for at in places]


def carriers(
    variants: list[tuple[int, str, str]], starts: list[int], quality: int = 37, length: int = LENGTH
) -> list[Read]:
    """Reads of a haplotype with these variants (position, REF, ALT as in VCF), aligned as they are spelled."""
    reads = []
    for start in starts:
        bases, cigar, at = "", [], start
        for position, ref, alt in sorted(variants):
            if position < start or position >= start + length:
                continue
            bases += SEQUENCE[at:position] + alt
            cigar.append((position - at + min(len(ref), len(alt)), "M"))
            if len(alt) != len(ref):
                cigar.append((abs(len(alt) - len(ref)), "I" if len(alt) > len(ref) else "D"))
            at = position + len(ref)
        left = max(1, length - len(bases))
        bases += SEQUENCE[at : at + left]
        cigar.append((left, "M"))
        reads.append(Read(start, "".join(f"{size}{kind}" for size, kind in merged(cigar)), bases, quality))
    return reads


def merged(cigar: list[tuple[int, str]]) -> list[tuple[int, str]]:
    result: list[tuple[int, str]] = []
    for size, kind in cigar:
        if result and result[-1][1] == kind:
            size += result.pop()[0]
        result.append((size, kind))
    return result


def starts(count: int) -> list[int]:
    return [PLACE - 120 + 90 * k // max(1, count) for k in range(count)]
