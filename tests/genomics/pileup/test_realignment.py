"""Reads that an aligner spared a gap are given back to the indel they show."""

import random
from pathlib import Path

import numpy as np
import pytest

from fedcall.genomics.examples import Examples
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import Read, write_alignments, write_reference

_BASES = random.Random(3)
SEQUENCE = "".join(_BASES.choice("ACGT") for _ in range(400))
AT = 200  # the base before the indel
LENGTH = 60


def haplotype(indel: str) -> str:
    """The reference with `+CTA` inserted after AT, or with -4 bases deleted."""
    if indel.startswith("+"):
        return SEQUENCE[: AT + 1] + indel[1:] + SEQUENCE[AT + 1 :]
    return SEQUENCE[: AT + 1] + SEQUENCE[AT + 1 + int(indel[1:]) :]


def gapped(indel: str, begin: int) -> Read:
    before, size = AT + 1 - begin, len(indel) - 1 if indel[0] == "+" else int(indel[1:])
    behind = LENGTH - before - (size if indel[0] == "+" else 0)
    return Read(begin, f"{before}M{size}{'I' if indel[0] == '+' else 'D'}{behind}M", read_bases(indel, begin))


def read_bases(indel: str, begin: int) -> str:
    return haplotype(indel)[begin : begin + LENGTH]


def ungapped(indel: str, begin: int, clipped: int = 0) -> Read:
    return Read(begin, f"{LENGTH - clipped}M" + (f"{clipped}S" if clipped else ""), read_bases(indel, begin))


def plain(begin: int) -> Read:
    return Read(begin, f"{LENGTH}M", SEQUENCE[begin : begin + LENGTH])


def extract(folder: Path, reads: list[Read]) -> Examples:
    reference = write_reference(folder, {"1": SEQUENCE})
    return extract_examples(write_alignments(folder, {"1": len(SEQUENCE)}, reads), reference)


def depths_of_indel(examples: Examples) -> list[int]:
    (row,) = [row for row in range(len(examples)) if len(set(map(len, examples.alleles(row)))) == 2]
    return examples.allele_depths[row].tolist()


def substituted_reads(examples: Examples) -> int:
    snps = [row for row in range(len(examples)) if set(map(len, examples.alleles(row))) == {1}]
    return int(examples.allele_depths[snps, 1].sum())


@pytest.mark.parametrize("indel", ["+CTA", "-4"])
@pytest.mark.parametrize("clipped", [0, 7])
def test_fit_indels__a_read_that_ends_near_the_indel_shows_it(tmp_path: Path, indel: str, clipped: int) -> None:
    shown = [gapped(indel, AT - 30 - k) for k in range(6)]
    hidden = [ungapped(indel, AT + 9 - LENGTH, clipped)]
    examples = extract(tmp_path, shown + hidden + [plain(AT - 30 + k) for k in range(6)])
    assert depths_of_indel(examples) == [6, 7]
    assert substituted_reads(examples) == 0


@pytest.mark.parametrize("indel", ["+CTA", "-4"])
def test_fit_indels__also_where_the_read_begins(tmp_path: Path, indel: str) -> None:
    bases = haplotype(indel)
    shift = len(bases) - len(SEQUENCE)
    begin = AT - 5
    aligned_from_behind = Read(begin, f"{LENGTH}M", bases[begin + shift : begin + shift + LENGTH])
    examples = extract(tmp_path, [gapped(indel, AT - 30 - k) for k in range(6)] + [aligned_from_behind])
    assert depths_of_indel(examples) == [0, 7]
    assert substituted_reads(examples) == 0


def test_fit_indels__a_substitution_beside_the_indel_stays(tmp_path: Path) -> None:
    def substituted(begin: int) -> Read:
        bases = list(SEQUENCE[begin : begin + LENGTH])
        bases[AT + 3 - begin] = "ACGT"[("ACGT".index(SEQUENCE[AT + 3]) + 1) % 4]
        return Read(begin, f"{LENGTH}M", "".join(bases))

    examples = extract(tmp_path, [gapped("-4", AT - 30 - k) for k in range(6)] + [substituted(AT - 30)] * 6)
    assert depths_of_indel(examples) == [6, 6]
    assert substituted_reads(examples) == 6


def test_fit_indels__reads_of_the_reference_stay(tmp_path: Path) -> None:
    examples = extract(tmp_path, [gapped("+CTA", AT - 30)] * 6 + [plain(AT + k - LENGTH) for k in range(2, 40)])
    reference_reads, showing = depths_of_indel(examples)
    assert showing == 6
    assert reference_reads > 20


def test_fit_indels__no_indel_no_reads_moved(tmp_path: Path) -> None:
    examples = extract(tmp_path, [ungapped("-4", AT + 9 - LENGTH)] * 6)
    assert np.all(examples.allele_depths[:, 1] == 6)
