"""Where a truth does not say what the patient has, candidates get no label: neither "carried" nor "not carried"."""

import random
from pathlib import Path

import numpy as np
import pytest

from fedcall.genomics.alleles import Allele
from fedcall.genomics.truth.labels import UNKNOWN, label_candidates, read_truth
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.genomics.vcf.bgzip import write_vcf
from tiny_alignments import write_reference

SEQUENCE = "".join(random.Random(2).choices("ACGT", k=3_000))
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}
HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c,length=3000>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp",
]


def record(start: int, alt: str, genotype: str, filters: str = "PASS", info: str = ".", length: int = 1) -> str:
    ref = SEQUENCE[start : start + length]
    return f"c\t{start + 1}\t.\t{ref}\t{alt}\t50\t{filters}\t{info}\tGT\t{genotype}"


def labels(truth: Path, places: list[int], window: tuple[int, int] = (0, 3_000)) -> list[int]:
    known = read_truth(truth, "p", "c", *window, SEQUENCE, 0)
    candidates = [Allele(place, SEQUENCE[place], OTHER[SEQUENCE[place]]) for place in places]
    return label_candidates(candidates, known, [(0, 3_000)], "all", SEQUENCE, 0).tolist()


CASES = {
    "failed filter": record(1_500, OTHER[SEQUENCE[1_500]], "0/1", "low"),
    "no genotype": record(1_500, OTHER[SEQUENCE[1_500]], "./."),
    "no genotype, no ALT": record(1_500, ".", "."),
    "half a genotype": record(1_500, OTHER[SEQUENCE[1_500]], "./1"),
    "beyond the alleles": record(1_500, OTHER[SEQUENCE[1_500]], "0/2"),
    "an ambiguous base": record(1_500, "R", "0/1"),
    "a breakend": record(1_500, f"{SEQUENCE[1_500]}[c:9[", "0/1"),
}


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_labels__where_the_truth_does_not_say(tmp_path: Path, case: str, normalised: bool) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    truth = tmp_path / "t.vcf.gz"
    write_vcf(truth, [*HEADER, record(500, OTHER[SEQUENCE[500]], "0/1"), CASES[case]])
    if normalised:
        normalise_labels(truth, reference, tmp_path / "n.vcf.gz")
        truth = tmp_path / "n.vcf.gz"
    assert labels(truth, [500, 800, 1_500, 2_000]) == [1, 0, UNKNOWN, 0]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(("alt", "genotype"), [("<DEL>", "0/1"), ("<DUP>", "1/1"), (".", "./."), ("<NON_REF>", "./.")])
def test_labels__places_with_an_end(tmp_path: Path, alt: str, genotype: str, normalised: bool) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    truth = tmp_path / "t.vcf.gz"
    write_vcf(truth, [*HEADER, record(500, alt, genotype, info="END=1600"), record(700, ".", "0/0", info="END=720")])
    if normalised:
        normalise_labels(truth, reference, tmp_path / "n.vcf.gz")
        normalise_labels(tmp_path / "n.vcf.gz", reference, tmp_path / "again.vcf.gz")
        truth = tmp_path / "n.vcf.gz"
        assert truth.read_bytes() == (tmp_path / "again.vcf.gz").read_bytes()
    expected = [0, UNKNOWN, UNKNOWN, 0]
    assert labels(truth, [400, 500, 1_590, 1_700]) == expected
    # However the genome is cut: the record begins far before what is read.
    assert labels(truth, [1_400, 1_590, 1_700], (1_300, 1_900)) == [UNKNOWN, UNKNOWN, 0]


@pytest.mark.parametrize("info", ["SVLEN=-1099", "SVTYPE=DEL;SVLEN=1099"])
def test_labels__a_deletion_that_says_its_length_and_no_end(tmp_path: Path, info: str) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    write_vcf(tmp_path / "t.vcf.gz", [*HEADER, record(500, "<DEL>", "0/1", info=info)])
    normalise_labels(tmp_path / "t.vcf.gz", reference, tmp_path / "n.vcf.gz")
    for truth in (tmp_path / "t.vcf.gz", tmp_path / "n.vcf.gz"):
        assert labels(truth, [400, 500, 1_590, 1_700]) == [0, UNKNOWN, UNKNOWN, 0]


def test_labels__what_is_known_to_be_absent_stays_so(tmp_path: Path) -> None:
    """Blocks without variation, alleles of others, a base deleted by another record, an ALT that is the REF."""
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    lines = [
        record(500, "<NON_REF>", "0/0", info="END=900"),
        record(1_000, OTHER[SEQUENCE[1_000]], "0/0", "low"),
        record(1_200, SEQUENCE[1_200], "0/1"),
    ]
    write_vcf(tmp_path / "t.vcf.gz", [*HEADER, *lines])
    summary = normalise_labels(tmp_path / "t.vcf.gz", reference, tmp_path / "n.vcf.gz")
    assert summary.kept == 0
    for truth in (tmp_path / "t.vcf.gz", tmp_path / "n.vcf.gz"):
        np.testing.assert_array_equal(labels(truth, [600, 1_000, 1_200]), 0)
