"""Counting alleles in a cohort, and what evaluation says of the rare ones."""

from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import compare_variants
from fedcall.genomics.concordance.records import Variant
from fedcall.genomics.truth.allele_counts import count_alleles, read_allele_counts, write_allele_counts
from tiny_alignments import write_truth

PEOPLE = {
    "p1": [(10, "A", "C", (0, 1)), (20, "G", "T", (1, 1)), (30, "GA", "G", (0, 1))],
    "p2": [(20, "G", "T", (0, 1)), (40, "T", "C", (0, 0)), (50, "T", "C", (None, 1))],
}


@pytest.fixture
def labels(tmp_path: Path) -> list[Path]:
    paths = []
    for name, records in PEOPLE.items():
        (tmp_path / name).mkdir()
        paths.append(write_truth(tmp_path / name, {"chr1": 100}, records))
    return paths


def test_count_alleles__sums_copies_over_people(labels: list[Path]) -> None:
    assert dict(count_alleles(labels)) == {
        ("chr1", 10, "A", "C"): 1,
        ("chr1", 20, "G", "T"): 3,
        ("chr1", 30, "GA", "G"): 1,
        ("chr1", 50, "T", "C"): 1,
    }


def test_write_allele_counts__reads_back(labels: list[Path], tmp_path: Path) -> None:
    counts = count_alleles(labels)
    write_allele_counts(tmp_path / "counts.tsv", counts)
    assert read_allele_counts(tmp_path / "counts.tsv") == counts


@pytest.mark.parametrize("text", ["", "a\tb\n", "contig\tposition\tref\talt\tcopies\nchr1\tx\tA\tC\t1\n"])
def test_read_allele_counts__another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text(text)
    with pytest.raises(FedcallError, match=r"counts\.tsv"):
        read_allele_counts(path)


def test_compare_variants__recall_of_rare_variants_stands_apart() -> None:
    def variant(start: int, **known: float) -> Variant:
        return Variant("chr1", start, "A", "C", 1, **known)

    truth = [variant(100 * number) for number in range(1, 9)]
    counts = {one.key: 1 if one.start <= 400 else 7 for one in truth}
    calls = [variant(one.start, allele_fraction=0.5) for one in truth if one.start != 200]
    calls.append(variant(950, allele_fraction=0.12))
    found = compare_variants(truth, calls, [("chr1", 0, 1000)], lambda *_: "A" * 61, "all", counts)
    strata = {(row.stratum, row.value): row.figures for row in found.strata}
    assert strata["allele count", "1 (rare)"].recall == 0.75
    assert strata["allele count", "5+"].recall == 1.0
    assert strata["allele fraction", "10-19 %"].precision == 0.0
    assert strata["allele fraction", "30-69 %"].precision == 1.0


def test_compare_variants__a_panel_says_how_rare_a_variant_is() -> None:
    truth = [Variant("chr1", 100 * number, "A", "C", 1) for number in range(1, 6)]
    frequencies = dict(zip([one.key for one in truth], [0.0, 0.0005, 0.005, 0.3], strict=False))
    found = compare_variants(truth, truth[1:], [("chr1", 0, 1000)], lambda *_: "A" * 61, frequencies=frequencies)
    strata = {row.value: row.figures for row in found.strata if row.stratum == "panel frequency"}
    assert strata["0-0.1 % (rare)"].recall == 0.5
    assert strata["0.1-1 %"].recall == strata["5 %+"].recall == 1.0
    # The fifth lies where the panel covers nothing.
    assert sum(figures.tally.truth for figures in strata.values()) == 4
