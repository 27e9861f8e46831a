"""Reads spelled or aligned in unusual words show the same as others: "=", gaps beside gaps, padding, the CG tag."""

import random
from pathlib import Path

import numpy as np
import pysam
import pytest

from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.model.encoding import log_posteriors
from tiny_alignments import Read, write_alignments, write_reference

SEQUENCE = "".join(random.Random(7).choices("ACGT", k=1_500))
PLACE = 600


def other(base: str) -> str:
    return {"A": "C", "C": "G", "G": "T", "T": "A"}[base]


def call(folder: Path, reads: list[Read], sequence: str = SEQUENCE) -> dict[tuple[int, str, str], int]:
    reference = write_reference(folder, {"c": sequence})
    examples = extract_examples(write_alignments(folder, {"c": len(sequence)}, reads), reference)
    copies = log_posteriors(examples).argmax(1)
    return {(int(examples.position[row]), *examples.alleles(row)): int(copies[row]) for row in np.flatnonzero(copies)}


def changed(reference: str, calls: dict[tuple[int, str, str], int]) -> str:
    """Return the haplotype that calls spell."""
    for position, ref, alt in sorted(calls, reverse=True):
        assert reference[position : position + len(ref)] == ref
        reference = reference[:position] + alt + reference[position + len(ref) :]
    return reference


def replaced(cigar: str, inserted: str, deleted: int, count: int) -> list[Read]:
    patient = SEQUENCE[:PLACE] + inserted + SEQUENCE[PLACE + deleted :]
    starts = [PLACE - 80 + 65 * k // count for k in range(count)]
    return [
        Read(
            start,
            f"{PLACE - start}M{cigar}{100 - PLACE + start - len(inserted)}M",
            patient[start : start + 100],
            37,
            16 * (k % 2),
        )
        for k, start in enumerate(starts)
    ]


@pytest.mark.parametrize("depth", [12, 60, 2_400])
@pytest.mark.parametrize(
    ("cigar", "inserted", "deleted"),
    [
        ("3D2I", "TT", 3),
        ("2I3D", "GA", 3),
        ("1D1I", other(SEQUENCE[PLACE]), 1),
        ("2D5I", "ACGGT", 2),
        ("5I2P2D", "ACGGT", 2),
    ],
)
def test_calls__a_deletion_beside_an_insertion(
    tmp_path: Path, cigar: str, inserted: str, deleted: int, depth: int
) -> None:
    patient = SEQUENCE[:PLACE] + inserted + SEQUENCE[PLACE + deleted :]
    both = call(tmp_path, replaced(cigar, inserted, deleted, depth))
    assert set(both.values()) == {2}
    assert changed(SEQUENCE, both) == patient
    plain = [Read(start, "100M", SEQUENCE[start : start + 100]) for start in range(PLACE - 80, PLACE - 20, 2)]
    one = call(tmp_path, replaced(cigar, inserted, deleted, 30) + plain)
    assert one == dict.fromkeys(both, 1)


def test_calls__equals_signs_are_reference_bases(tmp_path: Path) -> None:
    patient = SEQUENCE[:PLACE] + other(SEQUENCE[PLACE]) + SEQUENCE[PLACE + 1 :]
    reads, spelled = [], []
    for k in range(30):
        start = PLACE - 90 + 2 * k
        bases = (patient if k % 2 else SEQUENCE)[start : start + 101]
        spelled.append(Read(start, "101M", bases))
        short = "".join("=" if a == b else a for a, b in zip(bases, SEQUENCE[start:], strict=False))
        reads.append(Read(start, "101M", short))
    found = call(tmp_path, reads)
    assert found == {(PLACE, SEQUENCE[PLACE], other(SEQUENCE[PLACE])): 1}
    assert found == call(tmp_path, spelled)


@pytest.mark.parametrize("code", ["R", "N"])
@pytest.mark.parametrize("place", [PLACE + 5, PLACE - 1], ids=["inside", "before"])
def test_calls__a_deletion_over_an_ambiguous_base(tmp_path: Path, code: str, place: int) -> None:
    shown = SEQUENCE[:place] + code + SEQUENCE[place + 1 :]
    patient = SEQUENCE[:PLACE] + SEQUENCE[PLACE + 15 :]
    starts = range(PLACE - 85, PLACE - 15, 2)
    reads = [Read(s, f"{PLACE - s}M15D{100 - PLACE + s}M", patient[s : s + 100]) for s in starts]
    found = call(tmp_path, reads, shown)
    assert list(found.values()) == [2]
    ((_, ref, alt),) = found
    assert len(ref) - len(alt) == 15
    assert set(ref + alt) <= set("ACGTN"), "no code for several bases stands in a VCF"


def test_calls__a_cigar_in_the_cg_tag(tmp_path: Path) -> None:
    sequence = "".join(random.Random(3).choices("ACGT", k=72_000))
    at = 33_000
    patient = sequence[:at] + other(sequence[at]) + sequence[at + 1 :]
    found = []
    for operations in (60_000, 65_600):
        length = operations + 200
        cigar = "1=1M" * (operations // 2) + "200M"
        reads = [Read(k, cigar, patient[k : k + length], 30) for k in range(6)]
        found.append(call(tmp_path, reads, sequence))
    with pysam.AlignmentFile(str(tmp_path / "reads.bam")) as handle:
        assert len(next(handle).cigartuples or []) > 65_535
    assert found[0] == found[1] == {(at, sequence[at], other(sequence[at])): 2}
