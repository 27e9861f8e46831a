"""More carriers never favour 0/0: at any depth, quality and mapping quality, with any reads beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.genomics.alleles import Allele
from fedcall.genomics.pileup.candidates import Candidates
from fedcall.genomics.pileup.evidence import ALT, NEITHER, OTHER, REF, ReadEvidence
from fedcall.genomics.pileup.likelihood import log_likelihoods

SNP, INSERTION, DELETION = Allele(5, "A", "C"), Allele(5, "A", "AC"), Allele(5, "ACG", "A")
Row = tuple[int, int, int, bool, int, int]
"""What a read shows, base quality, mapping quality, strand, bases to its end, departures."""


NUMBERS = st.one_of(st.integers(1, 400), st.integers(1, 400), st.sampled_from([4_000, 40_000, 400_000]))
"""How often a read is there: depths reach a million."""


def rows(shown: st.SearchStrategy[int]) -> st.SearchStrategy[Row]:
    qualities = st.integers(10, 60), st.sampled_from([5, 12, 29, 40, 60])
    return st.tuples(shown, *qualities, st.booleans(), st.integers(0, 30), st.integers(0, 6))


def likelihood(reads: list[tuple[Row, int]], allele: Allele) -> np.ndarray:
    """Log-likelihoods of reads, each as often as its number says."""
    columns = [
        np.repeat(column, [times for _, times in reads]) for column in zip(*(row for row, _ in reads), strict=True)
    ]
    shown, base_quality, mapping_quality, reverse, end_distance, departures = columns
    evidence = ReadEvidence(
        np.zeros(len(shown), np.int64),
        shown.astype(np.int8),
        base_quality,
        mapping_quality,
        reverse,
        np.zeros(len(shown), np.int8),
        end_distance,
        departures,
        np.zeros(len(shown), bool),
    )
    numbers = (np.array([value]) for value in (allele.position, not allele.is_snp, 2, 1))
    return log_likelihoods(evidence, Candidates([allele], *numbers, np.zeros((0, 3), np.int64)))[0].astype(np.float64)


def odds_against_reference(reads: list[tuple[Row, int]], allele: Allele) -> float:
    none, one, two = likelihood(reads, allele)
    return np.logaddexp(one, two) - none


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([SNP, INSERTION, DELETION]),
    st.lists(st.tuples(rows(st.sampled_from([REF, ALT, OTHER, NEITHER])), NUMBERS), max_size=5),
    rows(st.just(ALT)),
    st.one_of(st.integers(1, 300), st.sampled_from([3_000, 30_000, 300_000])),
)
def test_log_likelihoods__monotone_in_added_carriers(
    allele: Allele, others: list[tuple[Row, int]], carrier: Row, more: int
) -> None:
    none, one, two = likelihood([*others, (carrier, 1)], allele)
    # Against the reference; two copies against one; and where there is one copy of the genome, carried or not.
    less = np.logaddexp(one, two) - none, two - one, two - none
    none, one, two = likelihood([*others, (carrier, 1 + more)], allele)
    assert np.logaddexp(one, two) - none >= less[0] - 1e-3
    assert two - one >= less[1] - 1e-3
    assert two - none >= less[2] - 1e-3


@pytest.mark.parametrize("allele", [SNP, INSERTION, DELETION], ids=["SNP", "insertion", "deletion"])
@pytest.mark.parametrize("quality", [10, 12, 20, 40])
@pytest.mark.parametrize("mapping_quality", [5, 12, 60])
@pytest.mark.parametrize("departures", [0, 4])
def test_log_likelihoods__all_reads_carry_it_at_any_depth(
    allele: Allele, quality: int, mapping_quality: int, departures: int
) -> None:
    carriers = [((ALT, quality, mapping_quality, strand, 30, departures), 1) for strand in (False, True)]
    found = [
        odds_against_reference([(row, depth) for row, _ in carriers], allele) for depth in (1, 3, 10, 100, 1000, 10**5)
    ]
    assert found == sorted(found)
    assert found[0] > 0
    assert likelihood([(row, 500_000) for row, _ in carriers], allele).argmax() == 2


def test_log_likelihoods__half_of_a_million_reads() -> None:
    reads = [((shown, 40, 60, strand, 30, 0), 250_000) for shown in (REF, ALT) for strand in (False, True)]
    found = likelihood(reads, SNP)
    assert found.argmax() == 1
    assert np.sort(found)[-2] < -30
