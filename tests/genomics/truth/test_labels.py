"""Labels of candidates."""

import random
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.alleles import Allele
from fedcall.genomics.truth.labels import (
    TrueAlleles,
    check_truth,
    count_true_alleles,
    label_candidates,
    label_types,
    read_truth,
    truth_sample,
)
from fedcall.genomics.vcf.sample import choose_sample
from tiny_alignments import write_reference, write_truth

SEQUENCE = "".join(random.Random(3).choices("ACGT", k=100)) + "C" + "AG" * 6 + "T" * 3 + "CGATTCGA" * 20
REPEAT = 101
WHOLE = [(0, len(SEQUENCE))]
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def snp(position: int) -> Allele:
    return Allele(position, SEQUENCE[position], OTHER[SEQUENCE[position]])


def read(tmp_path: Path, records: list[tuple[int, str, str, tuple[int | None, ...]]]) -> TrueAlleles:
    truth = write_truth(tmp_path, {"c": len(SEQUENCE)}, records)
    return read_truth(truth, "p", "c", 0, len(SEQUENCE), SEQUENCE, 0)


def labels(
    candidates: list[Allele], truth: TrueAlleles, regions: list[tuple[int, int]] = WHOLE, types: str = "all"
) -> list[int]:
    return label_candidates(candidates, truth, regions, types, SEQUENCE, 0).tolist()  # type: ignore[arg-type]


def test_label_candidates__copies_of_the_allele(tmp_path: Path) -> None:
    truth = read(tmp_path, [(10, *snp(10)[1:], (0, 1)), (20, *snp(20)[1:], (1, 1)), (30, *snp(30)[1:], (0, 0))])
    assert labels([snp(10), snp(20), snp(30), snp(40)], truth) == [1, 2, 0, 0]


def test_label_candidates__another_base_is_not_the_allele(tmp_path: Path) -> None:
    truth = read(tmp_path, [(10, *snp(10)[1:], (1, 1))])
    wrong = next(base for base in "ACGT" if base not in (snp(10).ref, snp(10).alt))
    assert labels([Allele(10, snp(10).ref, wrong)], truth) == [0]


def test_label_candidates__one_record_with_two_alternatives(tmp_path: Path) -> None:
    first, second = [base for base in "ACGT" if base != SEQUENCE[10]][:2]
    truth = read(tmp_path, [(10, SEQUENCE[10], f"{first},{second}", (1, 2))])
    assert labels([Allele(10, SEQUENCE[10], first), Allele(10, SEQUENCE[10], second)], truth) == [1, 1]


def test_label_candidates__raw_truth_is_normalised(tmp_path: Path) -> None:
    # The last AG of the repeat is deleted, written with more context than needed.
    at = REPEAT + 8
    truth = read(tmp_path, [(at, SEQUENCE[at : at + 4], SEQUENCE[at : at + 2], (0, 1))])
    assert labels([Allele(REPEAT - 1, "CAG", "C")], truth) == [1]


def test_label_candidates__substitution_of_two_bases_labels_both_snps(tmp_path: Path) -> None:
    truth = read(tmp_path, [(10, SEQUENCE[10:12], snp(10).alt + snp(11).alt, (0, 1))])
    assert labels([snp(10), snp(11)], truth) == [1, 1]


def test_label_candidates__haploid_call_counts_as_two(tmp_path: Path) -> None:
    assert labels([snp(10)], read(tmp_path, [(10, *snp(10)[1:], (1,))])) == [2]


def test_label_candidates__outside_regions(tmp_path: Path) -> None:
    truth = read(tmp_path, [(10, *snp(10)[1:], (0, 1))])
    deletion = Allele(18, SEQUENCE[18:22], SEQUENCE[18])
    assert labels([snp(9), snp(10), deletion], truth, [(10, 20)]) == [-1, 1, -1]


def test_label_candidates__truth_of_snps_says_nothing_about_indels(tmp_path: Path) -> None:
    truth = read(tmp_path, [(10, *snp(10)[1:], (0, 1))])
    assert labels([snp(10), Allele(50, SEQUENCE[50], SEQUENCE[50] + "A")], truth, types="snps") == [1, -1]


def test_label_candidates__near_an_indel_nobody_matches(tmp_path: Path) -> None:
    truth = read(tmp_path, [(REPEAT - 1, "CAG", "C", (0, 1))])
    end = REPEAT + 12
    near, far = snp(end + 8), snp(end + 20)
    assert labels([near, far], truth) == [-1, 0]
    assert labels([Allele(REPEAT - 1, "CAG", "C"), near, far], truth) == [1, 0, 0], "matched: no doubt is left"


def test_label_candidates__missing_genotype(tmp_path: Path) -> None:
    truth = read(tmp_path, [(50, *snp(50)[1:], (None, None))])
    assert labels([snp(50), snp(90)], truth) == [-1, 0]


def test_read_truth__other_reference(tmp_path: Path) -> None:
    with pytest.raises(FedcallError, match=r"truth\.vcf\.gz: c:11: REF is"):
        read(tmp_path, [(10, OTHER[SEQUENCE[10]], SEQUENCE[10], (0, 1))])


def test_label_types__needs_many_records_to_deny_indels(tmp_path: Path) -> None:
    few = [(at, *snp(at)[1:], (0, 1)) for at in range(99)]
    assert label_types(write_truth(tmp_path, {"c": 400}, few)) == "all"
    many = [(at, *snp(at)[1:], (0, 1)) for at in range(100)]
    assert label_types(write_truth(tmp_path, {"c": 400}, many)) == "snps"
    with_indel = [*many, (150, SEQUENCE[150], SEQUENCE[150] + "A", (0, 0))]
    assert label_types(write_truth(tmp_path, {"c": 400}, with_indel)) == "all"


def test_label_types__header_decides(tmp_path: Path) -> None:
    path = tmp_path / "truth.vcf"
    path.write_text(
        "##fileformat=VCFv4.2\n##fedcall_label_types=snps\n##contig=<ID=c>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    assert label_types(path) == "snps"


@pytest.mark.real_data
def test_label_types__real_truths(shared_data: Path) -> None:
    assert label_types(shared_data / "ceu_1000g/genotypes.vcf.gz") == "snps"
    assert label_types(shared_data / "na12878/truth.vcf.gz") == "all"


def test_truth_sample__is_the_only_one_or_the_one_named(tmp_path: Path) -> None:
    truth = write_truth(tmp_path, {"c": 400}, [])
    assert truth_sample(truth, None) == truth_sample(truth, "p") == "p"


@pytest.mark.parametrize(
    ("samples", "wanted", "said"),
    [
        (["p"], "q", "t.vcf: no sample 'q' (found p); name the patient's with --sample"),
        (list("abcdef"), None, "t.vcf: 6 samples (a, b, c, d and 2 more); name the patient's with --sample"),
        ([], None, "t.vcf: no sample column; a VCF with the patient's genotypes is needed"),
        ([], "p", "t.vcf: no sample column; a VCF with the patient's genotypes is needed"),
    ],
)
def test_choose_sample__says_what_is_there(samples: list[str], wanted: str | None, said: str) -> None:
    with pytest.raises(FedcallError) as caught:
        choose_sample(Path("t.vcf"), samples, wanted)
    assert str(caught.value) == said


def test_check_truth__fits_its_reference(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    records = [(10, *snp(10)[1:], (0, 1))]
    check_truth(write_truth(tmp_path, {"c": len(SEQUENCE)}, records), reference)
    with pytest.raises(FedcallError, match="no contig in common"):
        check_truth(write_truth(tmp_path, {"chrC": len(SEQUENCE)}, records), reference)
    with pytest.raises(FedcallError, match=r"contig 'c' has 999 bases"):
        check_truth(write_truth(tmp_path, {"c": 999}, records), reference)


def test_check_truth__no_index(tmp_path: Path) -> None:
    truth = write_truth(tmp_path, {"c": len(SEQUENCE)}, [])
    Path(f"{truth}.tbi").unlink()
    with pytest.raises(FedcallError, match="index is missing"):
        check_truth(truth, write_reference(tmp_path, {"c": SEQUENCE}))


@pytest.mark.real_data
def test_count_true_alleles__counts_what_the_person_carries(shared_data: Path) -> None:
    truth = shared_data / "ceu_1000g/genotypes.vcf.gz"
    with pysam.VariantFile(str(truth)) as variants:
        carried = [
            record.start for record in variants if any(index for index in record.samples["NA06984"].allele_indices)
        ]
    middle = 20_075_000
    assert len(carried) > 100
    assert count_true_alleles(truth, "NA06984", [("20", 0, 63_025_520)]) == len(carried)
    assert count_true_alleles(truth, "NA06984", [("20", middle, 20_150_000)]) == sum(at >= middle for at in carried)
    assert count_true_alleles(truth, "NA06984", [("21", 0, 1000)]) == 0
