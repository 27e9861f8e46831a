"""Calls as other callers write them, against a plain truth: what counts as found, as another genotype, as nothing."""

import random
from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import Concordance, compare
from tiny_alignments import write_reference

BASES = "".join(random.Random(7).choices("ACGT", k=1_000))
BASES = BASES[:600] + "CATTTTTTTTTTG" + BASES[613:]
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}
HEADER = [
    "##fileformat=VCFv4.2",
    "##contig=<ID=c,length=1000>",
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">',
]
REF, ALT = BASES[99], OTHER[BASES[99]]
THIRD = OTHER[ALT] if OTHER[ALT] != REF else OTHER[OTHER[ALT]]


def line(position: int, ref: str, alt: str, genotype: str, info: str = ".", filters: str = "PASS") -> str:
    return f"c\t{position}\t.\t{ref}\t{alt}\t50\t{filters}\t{info}\tGT\t{genotype}"


def snp(genotype: str, alt: str = ALT) -> str:
    return line(100, REF, alt, genotype)


@pytest.fixture
def compared(tmp_path: Path):
    reference = write_reference(tmp_path, {"c": BASES})
    (tmp_path / "r.bed").write_text("c\t0\t1000\n")

    def run(truth: list[str], calls: list[str], columns: str = "\tFORMAT\ts1") -> Concordance:
        for name, lines in (("truth", truth), ("calls", calls)):
            own = columns if name == "calls" else "\tFORMAT\ts1"
            head = [*HEADER, f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO{own}"]
            (tmp_path / f"{name}.vcf").write_text("\n".join([*head, *lines]) + "\n")
        return compare(tmp_path / "truth.vcf", tmp_path / "calls.vcf", tmp_path / "r.bed", reference)

    return run


@pytest.mark.parametrize(
    ("truth", "calls", "expected"),
    [
        # (found with its genotype, missed or of another genotype, called and wrong, of another genotype)
        ("0/1", ["0|1"], (1, 0, 0, 0)),
        ("0/1", ["1|0"], (1, 0, 0, 0)),
        ("1/1", ["1"], (1, 0, 0, 0)),
        ("1", ["1/1"], (1, 0, 0, 0)),
        ("0/1", ["1/1"], (0, 1, 1, 1)),
        ("0/1", ["./1"], (1, 0, 0, 0)),
        ("0/1", ["0/0/1"], (1, 0, 0, 0)),
        ("0/1", ["0/0/0/1"], (1, 0, 0, 0)),
        ("1/1", ["1/1/1/1"], (1, 0, 0, 0)),
        ("0/1", ["./."], (0, 1, 0, 0)),
        ("0/1", ["."], (0, 1, 0, 0)),
        ("0/1", ["0/0"], (0, 1, 0, 0)),
        ("0/1", ["0/1", "0/1"], (1, 0, 0, 0)),
        ("0/1", ["0/1", "0/0"], (1, 0, 0, 0)),
        ("0/1", [], (0, 1, 0, 0)),
    ],
)
def test_compare__genotypes_of_any_form(compared, truth: str, calls: list[str], expected: tuple[int, ...]) -> None:
    found = compared([snp(truth)], [snp(genotype) for genotype in calls]).snps
    assert (found.tp, found.fn, found.fp, found.genotype_errors) == expected


BLOCK = line(90, BASES[89], "<NON_REF>", "0/0", "END=95")


@pytest.mark.parametrize(
    ("calls", "left_out"),
    [
        ([BLOCK, snp("0/1", f"{ALT},<NON_REF>"), line(101, BASES[100], "<NON_REF>", "0/0", "END=900")], {}),
        ([snp("0/1", f"{ALT},<*>"), line(101, BASES[100], "<*>", "0/0", "END=900")], {}),
        ([snp("1/0", f"{ALT},*")], {}),
        ([snp("1/2", f"{ALT},*")], {}),  # the other copy is deleted there, by another record
        ([snp("0/1"), line(300, BASES[299], "*", "0/1")], {}),
        ([snp("0/1"), line(300, BASES[299], "<DEL>", "0/1", "END=400")], {"calls: not spelled in bases": 1}),
        ([snp("0/1"), line(300, BASES[299], f"{BASES[299]}[c:700[", "0/1")], {"calls: not spelled in bases": 1}),
        ([snp("0/1"), line(300, BASES[299], f".{BASES[299]}", "0/1")], {"calls: not spelled in bases": 1}),
        ([snp("0/1"), line(300, BASES[299], ".", "0/0")], {}),
        ([snp("0/1"), line(300, BASES[299], OTHER[BASES[299]], "0/1", filters="LowQual")], {}),
    ],
)
def test_compare__blocks_symbols_and_breakends(compared, calls: list[str], left_out: dict[str, int]) -> None:
    found = compared([snp("0/1")], calls)
    assert (found.snps.tp, found.snps.fn, found.snps.fp) == (1, 0, 0)
    assert found.left_out == left_out


@pytest.mark.parametrize("other", [f"{ALT},{THIRD}", f"{THIRD},{ALT}"])
def test_compare__two_alternatives_in_one_record_or_two(compared, other: str) -> None:
    truth = [snp("1|2", other)]
    for calls in ([snp("1/2", other)], [snp("0/1"), snp("0/1", THIRD)], [snp("1|0"), snp("0|1", THIRD)]):
        found = compared(truth, calls).snps
        assert (found.tp, found.fn, found.fp) == (2, 0, 0)


@pytest.mark.parametrize(
    "deletion", [(601, "CAT", "CA"), (602, "AT", "A"), (606, "TT", "T"), (610, "TTT", "TT"), (602, "ATTT", "ATT")]
)
def test_compare__one_deletion_written_anywhere_in_its_repeat(compared, deletion: tuple[int, str, str]) -> None:
    truth = [line(602, "AT", "A", "0/1")]
    found = compared(truth, [line(*deletion, "0/1")]).indels
    assert found is not None
    assert (found.tp, found.fn, found.fp) == (1, 0, 0)
    # Stated at two places, phased onto both haplotypes, it is homozygous, which the truth is not.
    twice = compared(truth, [line(*deletion, "0|1"), line(609, "TT", "T", "1|0")]).indels
    assert twice is not None
    assert twice.tp == 0


def test_compare__a_file_without_genotypes_is_refused(compared) -> None:
    sites = ["\t".join(snp("0/1").split("\t")[:8])]
    with pytest.raises(FedcallError, match="no sample column"):
        compared([snp("0/1")], sites, columns="")
