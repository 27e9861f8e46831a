"""Variants close to each other on one haplotype: each is called, whatever the others are."""

from pathlib import Path

import numpy as np
import pytest

from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.model.encoding import log_posteriors
from haplotype_reads import PLACE, SEQUENCE, carriers, snps, starts
from tiny_alignments import Read, write_alignments, write_reference

Call = dict[tuple[int, str, str], int]


def call(folder: Path, reads: list[Read]) -> Call:
    for number, read in enumerate(reads):
        object.__setattr__(read, "flag", 16 * (number % 2))
    reference = write_reference(folder, {"c": SEQUENCE})
    examples = extract_examples(write_alignments(folder, {"c": len(SEQUENCE)}, reads), reference)
    copies = log_posteriors(examples).argmax(1)
    return {(int(examples.position[row]), *examples.alleles(row)): int(copies[row]) for row in np.flatnonzero(copies)}


@pytest.mark.parametrize("spacing", [1, 2, 3, 5])
@pytest.mark.parametrize("number", [3, 5, 8])
@pytest.mark.parametrize("depth", [8, 40, 300])
def test_calls__several_snps_within_a_few_bases(tmp_path: Path, spacing: int, number: int, depth: int) -> None:
    variants = snps(*(PLACE + spacing * k for k in range(number)))
    for copies in (1, 2):
        reads = carriers(variants, starts(depth if copies == 2 else depth // 2))
        reads += carriers([], starts(depth // 2)) if copies == 1 else []
        assert call(tmp_path, reads) == dict.fromkeys(variants, copies)


@pytest.mark.parametrize(
    "indel",
    [
        (PLACE - 6, SEQUENCE[PLACE - 6], SEQUENCE[PLACE - 6] + "ACGGT"),
        (PLACE - 6, SEQUENCE[PLACE - 6 : PLACE - 3], SEQUENCE[PLACE - 6]),
    ],
    ids=["insertion", "deletion"],
)
@pytest.mark.parametrize("depth", [10, 60])
def test_calls__snps_beside_an_indel(tmp_path: Path, indel: tuple[int, str, str], depth: int) -> None:
    variants = [indel, *snps(PLACE, PLACE + 3, PLACE + 7)]
    both = call(tmp_path, carriers(variants, starts(depth)))
    assert len(both) == 4
    assert set(both.values()) == {2}
    assert set(snps(PLACE, PLACE + 3, PLACE + 7)) <= set(both)
    one = call(tmp_path, carriers(variants, starts(depth // 2)) + carriers([], starts(depth // 2)))
    assert one == dict.fromkeys(both, 1)


def test_calls__a_snp_is_as_sure_beside_others_as_alone(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    found = []
    for places in ((PLACE,), (PLACE, PLACE + 3, PLACE + 6, PLACE + 9)):
        reads = carriers(snps(*places), starts(20)) + carriers([], starts(20))
        examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
        found.append(examples.log_likelihoods[examples.position == PLACE])
    np.testing.assert_array_equal(*found)


def test_calls__few_reads_with_many_mismatches_are_still_doubted(tmp_path: Path) -> None:
    """Three reads of elsewhere among forty: what nobody else shows, together, is a sign of a misaligned read."""
    reads = carriers([], starts(40)) + carriers(snps(PLACE, PLACE + 3, PLACE + 6, PLACE + 9), starts(4))
    assert call(tmp_path, reads) == {}
