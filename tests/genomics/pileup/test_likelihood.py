"""Properties of the genotype likelihoods."""

import csv
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.genomics.alleles import Allele
from fedcall.genomics.examples import Examples
from fedcall.genomics.pileup.candidates import Candidates
from fedcall.genomics.pileup.evidence import ALT, NEITHER, OTHER, REF, ReadEvidence
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.pileup.likelihood import entangled, indel_error, log_likelihoods
from fedcall.model.encoding import log_posteriors

SNP = Allele(5, "A", "C")


def one_candidate(allele: Allele = SNP, shift: int = 0, period: int = 0) -> Candidates:
    return Candidates(
        [allele],
        np.array([allele.position]),
        np.array([not allele.is_snp]),
        np.array([shift]),
        np.array([period]),
        np.zeros((0, 3), np.int64),
    )


def evidence(shown: list[int], quality: int = 30, mapping_quality: int = 60, departures: int = 0) -> ReadEvidence:
    count = len(shown)
    return ReadEvidence(
        np.zeros(count, np.int64),
        np.array(shown, np.int8),
        np.full(count, quality),
        np.full(count, mapping_quality),
        np.arange(count) % 2 == 1,
        np.zeros(count, np.int8),
        np.full(count, 30),
        np.full(count, departures),
        np.zeros(count, bool),
    )


def likelihood(shown: list[int], allele: Allele = SNP, **arguments: int) -> np.ndarray:
    return log_likelihoods(evidence(shown, **arguments), one_candidate(allele, 0, 0 if allele.is_snp else 1))[0]


@pytest.mark.parametrize("allele", [Allele(5, "A", "C"), Allele(5, "A", "AC"), Allele(5, "AC", "A")])
@pytest.mark.parametrize(("ref", "alt", "copies"), [(20, 0, 0), (10, 10, 1), (0, 20, 2), (14, 6, 1)])
def test_log_likelihoods__plain_genotypes(allele: Allele, ref: int, alt: int, copies: int) -> None:
    found = likelihood([REF] * ref + [ALT] * alt, allele)
    assert found.argmax() == copies
    assert found.max() == 0


@given(ref=st.integers(0, 25), alt=st.integers(0, 25), quality=st.integers(10, 40))
def test_log_likelihoods__a_further_alternative_read_never_helps_the_reference(
    ref: int, alt: int, quality: int
) -> None:
    before = likelihood([REF] * ref + [ALT] * alt, quality=quality)
    after = likelihood([REF] * ref + [ALT] * (alt + 1), quality=quality)
    assert after[1] - after[0] >= before[1] - before[0] - 1e-4
    assert after[2] - after[1] >= before[2] - before[1] - 1e-4


@given(alt=st.integers(1, 10), quality=st.integers(10, 39))
def test_log_likelihoods__better_bases_say_more(alt: int, quality: int) -> None:
    worse, better = (likelihood([ALT] * alt, quality=value) for value in (quality, quality + 1))
    assert better[0] < worse[0]


def test_log_likelihoods__quality_is_capped_by_mapping_and_forty() -> None:
    shown = [REF] * 4 + [ALT] * 4
    np.testing.assert_array_equal(
        likelihood(shown, quality=35, mapping_quality=12), likelihood(shown, quality=12, mapping_quality=12)
    )
    np.testing.assert_array_equal(likelihood(shown, quality=60), likelihood(shown, quality=40))


def test_log_likelihoods__one_read_by_hand() -> None:
    error = 10**-3.0
    expected = np.log([error / 3, 0.5 * (1 - error) + error / 6, 1 - error])
    # The third allele's share, one in a thousand, is in all three.
    np.testing.assert_allclose(likelihood([ALT]), expected - expected.max(), atol=3e-3)


def test_log_likelihoods__no_reads_say_nothing() -> None:
    found = likelihood([])
    assert found[:2].max() - found.min() < 0.01
    np.testing.assert_allclose(likelihood([NEITHER] * 5), found, atol=1e-6)


def test_log_likelihoods__two_alternatives_are_one_copy_each() -> None:
    assert likelihood([ALT] * 10 + [OTHER] * 10).argmax() == 1


def test_log_likelihoods__departing_reads_are_doubted() -> None:
    shown = [REF] * 20 + [ALT] * 6
    assert likelihood(shown, departures=4)[0] > likelihood(shown, departures=0)[0]


def test_indel_error__grows_with_the_repeat() -> None:
    errors = [indel_error(one_candidate(Allele(5, "A", "AC"), shift, 1))[0] for shift in range(0, 25)]
    assert errors == sorted(errors)
    assert errors[0] < 1e-4 < 1e-2 < errors[-1] < 0.5


def test_log_likelihoods__the_same_reads_convince_less_in_a_homopolymer() -> None:
    shown = evidence([REF] * 12 + [ALT] * 3)
    allele = Allele(5, "A", "AC")
    short, long = (log_likelihoods(shown, one_candidate(allele, shift, 1))[0] for shift in (1, 14))
    assert short.argmax() == 1
    assert long[1] - long[0] < short[1] - short[0]


def with_support(reads: dict[int, list[int]]) -> Candidates:
    """Two insertions, 8 bases apart, and the records that show each."""
    alleles = [Allele(50, "A", "AC"), Allele(58, "C", "CT")]
    support = [(candidate, record, 0) for candidate, records in reads.items() for record in records]
    return Candidates(
        alleles,
        np.array([50, 58]),
        np.array([True, True]),
        np.zeros(2, np.int64),
        np.ones(2, np.int64),
        np.array(support, np.int64).reshape(-1, 3),
    )


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ({}, [False, False]),
        ({0: [1, 2, 3], 1: [4, 5, 6]}, [False, False]),
        ({0: [1, 2, 3], 1: [3, 2, 1]}, [True, True]),
        ({0: [1, 2], 1: [1, 2, 3, 4, 5, 6, 7, 8, 9]}, [True, False]),
    ],
)
def test_entangled__gaps_of_the_same_reads(reads: dict[int, list[int]], expected: list[bool]) -> None:
    assert entangled(with_support(reads)).tolist() == expected


def test_log_likelihoods__an_entangled_indel_needs_more_reads() -> None:
    shown = evidence([REF] * 20 + [ALT] * 8)
    alone, together = (
        log_likelihoods(shown, with_support({0: list(range(8)), 1: other}))[0] for other in ([], list(range(8)))
    )
    assert alone.argmax() == 1
    assert together[1] - together[0] < 0.5 * (alone[1] - alone[0])


def called(examples: Examples) -> dict[tuple[int, str, str], int]:
    posteriors = log_posteriors(examples)
    copies = posteriors.argmax(1)
    return {
        (int(examples.position[row]), *examples.alleles(row)): int(copies[row]) for row in np.flatnonzero(copies > 0)
    }


def true_genotypes(path: Path, sample: str, contig: str, start: int, end: int) -> dict[tuple[int, str, str], int]:
    with pysam.VariantFile(str(path)) as variants:
        genotypes = {
            (record.start, record.ref, record.alts[0]): sum(record.samples[sample]["GT"])
            for record in variants.fetch(contig, start, end)
        }
    return {key: copies for key, copies in genotypes.items() if copies}


@pytest.mark.real_data
def test_log_likelihoods__beat_bcftools_on_held_out_people(shared_data: Path) -> None:
    folder = shared_data / "ceu_1000g"
    matched = truths = calls = 0
    with open(folder / "samples.tsv", newline="") as handle:
        people = [row for row in csv.DictReader(handle, delimiter="\t") if row["split"] == "holdout"]
    for row in people:
        examples = extract_examples(folder / row["alignments"], folder / "reference.fa.gz", folder / "regions.bed")
        found = {key: copies for key, copies in called(examples).items() if len(key[1]) == len(key[2]) == 1}
        truth = true_genotypes(folder / "genotypes.vcf.gz", row["patient"], "20", 20_000_000, 20_150_000)
        matched += sum(truth.get(key) == copies for key, copies in found.items())
        truths, calls = truths + len(truth), calls + len(found)
    assert len(people) == 6
    assert 2 * matched / (truths + calls) > 0.640, "bcftools 1.16 on the same people (shared/data/baselines.tsv)"
