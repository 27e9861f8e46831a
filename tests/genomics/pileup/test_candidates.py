"""Which alleles become candidates, and in which form."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.genomics.alleles import Allele, normalise, right_shift, smallest_period
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import Read, write_alignments, write_reference

LEFT = "".join(random.Random(1).choices("ACGT", k=300)) + "C"
REPEAT = "AG" * 8
RIGHT = "T" + "".join(random.Random(2).choices("ACGT", k=300))
SEQUENCE = LEFT + REPEAT + RIGHT
START = len(LEFT)


def apply(allele: Allele, sequence: str) -> str:
    assert sequence[allele.position : allele.end] == allele.ref
    return sequence[: allele.position] + allele.alt + sequence[allele.end :]


def alleles_of(tmp_path: Path, reads: list[Read], sequence: str = SEQUENCE) -> list[tuple[int, str, str]]:
    reference = write_reference(tmp_path, {"c": sequence})
    path = write_alignments(tmp_path, {"c": len(sequence)}, reads)
    examples = extract_examples(path, reference)
    return [(int(examples.position[row]), *examples.alleles(row)) for row in range(len(examples))]


@given(
    sequence=st.text("AC", min_size=20, max_size=60),
    position=st.integers(1, 15),
    deleted=st.integers(0, 4),
    inserted=st.text("AC", max_size=4),
)
def test_normalise__same_haplotype_and_idempotent(sequence: str, position: int, deleted: int, inserted: str) -> None:
    allele = Allele(position, sequence[position : position + 1 + deleted], sequence[position] + inserted)
    found = normalise(allele, sequence, 0)
    haplotype = sequence
    for part in reversed(found):
        haplotype = apply(part, haplotype)
        assert normalise(part, sequence, 0) == [part]
    assert haplotype == apply(allele, sequence)


@given(sequence=st.text("AC", min_size=30, max_size=60), position=st.integers(5, 20), length=st.integers(1, 4))
def test_normalise__equal_deletions_collapse(sequence: str, position: int, length: int) -> None:
    one = Allele(position, sequence[position : position + length + 1], sequence[position])
    (leftmost,) = normalise(one, sequence, 0)
    for at in range(len(sequence) - length - 1):
        other = Allele(at, sequence[at : at + length + 1], sequence[at])
        same = apply(other, sequence) == apply(one, sequence)
        assert (normalise(other, sequence, 0) == [leftmost]) == same
    reach = right_shift(leftmost, sequence, 0)
    last = leftmost.position + reach
    assert apply(Allele(last, sequence[last : last + length + 1], sequence[last]), sequence) == apply(one, sequence)


def test_normalise__substitution_of_several_bases_becomes_snps() -> None:
    assert normalise(Allele(10, "ACG", "TCA"), "N" * 40, 0) == [Allele(10, "A", "T"), Allele(12, "G", "A")]


@pytest.mark.parametrize(("unit", "period"), [("A", 1), ("AAA", 1), ("AGAG", 2), ("AGA", 3), ("ACGACG", 3)])
def test_smallest_period(unit: str, period: int) -> None:
    assert smallest_period(unit) == period


def test_base_codes() -> None:
    assert base_codes("ACGTacgtNR").tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 4]


def test_find_candidates__placements_of_one_deletion_collapse(tmp_path: Path) -> None:
    begin = START - 30
    bases = SEQUENCE[begin:START] + "AG" * 7 + RIGHT[:30]
    reads = [Read(begin, f"{30 + 2 * k}M2D{len(bases) - 30 - 2 * k}M", bases) for k in range(8)]
    assert alleles_of(tmp_path, reads) == [(START - 1, "CAG", "C")]


def test_find_candidates__placements_of_one_insertion_collapse(tmp_path: Path) -> None:
    begin = START - 30
    bases = SEQUENCE[begin:START] + "AG" * 9 + RIGHT[:30]
    reads = [Read(begin, f"{30 + k}M2I{len(bases) - 32 - k}M", bases) for k in range(1, 9)]
    assert alleles_of(tmp_path, reads) == [(START - 1, "C", "CAG")]


@pytest.mark.parametrize(("carriers", "found"), [(1, False), (2, True)])
def test_find_candidates__one_read_makes_no_indel(tmp_path: Path, carriers: int, found: bool) -> None:
    reads = [Read(100, "30M3D30M", LEFT[100:130] + LEFT[133:163])] * carriers
    reads += [Read(100, "60M", LEFT[100:160])] * 2
    assert bool(alleles_of(tmp_path, reads)) == found


@pytest.mark.parametrize(("others", "found"), [(0, True), (11, True), (13, False)])
def test_find_candidates__one_read_makes_a_snp_at_low_depth(tmp_path: Path, others: int, found: bool) -> None:
    alt = "A" if LEFT[120] != "A" else "C"
    reads = [Read(100, "40M", LEFT[100:120] + alt + LEFT[121:140])] + [Read(100, "40M", LEFT[100:140])] * others
    assert alleles_of(tmp_path, reads) == ([(120, LEFT[120], alt)] if found else [])


def test_find_candidates__low_quality_bases_make_none(tmp_path: Path) -> None:
    alt = "A" if LEFT[120] != "A" else "C"
    assert alleles_of(tmp_path, [Read(100, "40M", LEFT[100:120] + alt + LEFT[121:140], 9)] * 5) == []


def test_find_candidates__two_alleles_make_two(tmp_path: Path) -> None:
    first, second = [base for base in "ACGT" if base != LEFT[120]][:2]
    reads = [Read(100, "40M", LEFT[100:120] + base + LEFT[121:140]) for base in (first, second) for _ in range(6)]
    assert alleles_of(tmp_path, reads) == [(120, LEFT[120], first), (120, LEFT[120], second)]
    reference = tmp_path / "reference.fa"
    examples = extract_examples(tmp_path / "reads.bam", reference)
    assert examples.log_likelihoods.argmax(1).tolist() == [1, 1], "genotype 1/2 is one copy of each"
    assert examples.allele_depths.tolist() == [[0, 6], [0, 6]]


@pytest.mark.parametrize(("wrong", "carriers"), [(1, 10), (3, 10), (4, 8)])
def test_find_candidates__misspelled_insertions_are_the_candidate(tmp_path: Path, wrong: int, carriers: int) -> None:
    """Of 15 inserted bases three may be sequencing errors, and bases of low quality are no other allele."""
    inserted = "TGCATTCGACCATGC"
    reads = [Read(100, "30M15I30M", LEFT[100:130] + inserted + LEFT[130:160]) for _ in range(7)]
    low = [35] * 33 + [4] * 2 + [35] * 40
    reads.append(Read(100, "30M15I30M", LEFT[100:130] + inserted + LEFT[130:160], low))
    for k in range(2):
        places = range(k, k + 2 * wrong, 2)
        spelled = "".join("ACGT"["TGCA".index(base)] if at in places else base for at, base in enumerate(inserted))
        reads.append(Read(100, "30M15I30M", LEFT[100:130] + spelled + LEFT[130:160]))
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
    row = [len(examples.alleles(row)[1]) for row in range(len(examples))].index(16)
    assert examples.allele_depths[row].tolist() == [0, carriers]
    assert examples.log_likelihoods[row].argmax() == (2 if carriers == 10 else 1)


def test_find_candidates__unknown_reference_makes_none(tmp_path: Path) -> None:
    hidden = LEFT[:110] + "N" * 20 + LEFT[130:]
    assert alleles_of(tmp_path, [Read(100, "40M", LEFT[100:140])] * 5, hidden) == []


def test_find_candidates__ends_of_the_contig(tmp_path: Path) -> None:
    alt = "A" if LEFT[0] != "A" else "C"
    reads = [Read(0, "20M", alt + LEFT[1:20])] * 4
    assert alleles_of(tmp_path, reads) == [(0, LEFT[0], alt)]
    examples = extract_examples(tmp_path / "reads.bam", tmp_path / "reference.fa")
    assert (examples.reference[0, :16] == 4).all()
    assert examples.counts[0, :, :16].sum() == 0
    assert np.isfinite(examples.features).all()
