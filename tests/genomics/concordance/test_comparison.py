"""Concordance: equal variants match however they are written, others do not."""

from collections.abc import Sequence
from pathlib import Path

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.calling.classical import call_classical
from fedcall.genomics.concordance.comparison import BLOCKS, Concordance, compare, compare_variants, read_concordance
from fedcall.genomics.concordance.haplotypes import MatchLevel, match
from fedcall.genomics.concordance.pool import difference_interval, interval, pool
from fedcall.genomics.concordance.records import Variant, read_variants
from fedcall.genomics.vcf.bgzip import write_vcf

#           0         10        20        30        40        50        60        70        80        90
SEQUENCE = "ACGTTAGCCATAAAAAACGTGCATTGACCAGTACACACACATGGATCCGTACGATCAGTTTTTCATCGGATCTAGCTAGGATCCATTACGGACTAGCA" * 3

Record = tuple[int, str, str, str]  # POS (1-based), REF, ALT, GT


def fetch(contig: str, start: int, end: int) -> str:
    assert contig == "c1"
    return SEQUENCE[start:end]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa"
    path.write_text(f">c1\n{SEQUENCE}\n>c2\nACGTACGT\n")
    pysam.faidx(str(path))
    return path


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    path = tmp_path / "regions.bed"
    path.write_text(f"c1\t0\t{len(SEQUENCE)}\n")
    return path


def vcf(
    path: Path,
    records: Sequence[Record],
    samples: Sequence[str] = ("me",),
    contig: str = "c1",
    headers: Sequence[str] = (),
) -> Path:
    header = [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=bad,Description="bad">',
        f"##contig=<ID={contig},length={len(SEQUENCE)}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
        *headers,
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]),
    ]
    rows = [
        "\t".join([contig, str(pos), ".", ref, alt, "30", "PASS", ".", "GT:GQ", *[f"{gt}:25"] * len(samples)])
        for pos, ref, alt, gt in sorted(records)
    ]
    write_vcf(path, [*header, *rows])
    return path


@pytest.fixture
def compared(tmp_path: Path, reference: Path, regions: Path):
    def run(truth: Sequence[Record], calls: Sequence[Record]) -> Concordance:
        paths = vcf(tmp_path / "truth.vcf.gz", truth), vcf(tmp_path / "calls.vcf.gz", calls, ["other name"])
        return compare(*paths, regions, reference)

    return run


def test_sequence__is_what_the_records_below_assume():
    assert SEQUENCE[11:17] == "AAAAAA"
    assert SEQUENCE[31:41] == "TACACACACA"


def test_compare__equal_alleles_match(compared):
    result = compared([(5, "T", "C", "0/1"), (12, "A", "AA", "1/1")], [(5, "T", "C", "0/1"), (12, "A", "AA", "1/1")])
    assert (result.snps.tp, result.snps.fn, result.snps.fp, result.snps.f1) == (1, 0, 0, 1.0)
    assert result.indels is not None
    assert (result.indels.tp, result.indels.f1) == (1, 1.0)
    assert result.all.tp == 2


def test_compare__wrong_copies_are_a_genotype_error(compared):
    result = compared([(5, "T", "C", "0/1")], [(5, "T", "C", "1/1")])
    assert (result.snps.tp, result.snps.fn, result.snps.fp, result.snps.genotype_errors) == (0, 1, 1, 1)
    assert (result.snps.f1, result.snps.allele_f1) == (0.0, 1.0)


def test_compare__missing_and_invented(compared):
    result = compared([(5, "T", "C", "0/1"), (80, "G", "A", "0/1")], [(80, "G", "A", "0|1"), (90, "G", "C", "1/1")])
    assert (result.snps.precision, result.snps.recall, result.snps.f1) == (0.5, 0.5, 0.5)
    assert (result.snps.fn, result.snps.fp, result.snps.genotype_errors) == (1, 1, 0)


def test_compare__multi_allelic_record_equals_two_records(compared):
    result = compared([(5, "T", "C,G", "1/2")], [(5, "T", "C", "0/1"), (5, "T", "G", "0/1")])
    assert (result.snps.tp, result.snps.tp_calls, result.snps.f1) == (2, 2, 1.0)


def test_compare__substitution_of_two_bases_equals_two_substitutions(compared):
    result = compared([(5, "TA", "CC", "0/1")], [(5, "T", "C", "0/1"), (6, "A", "C", "0/1")])
    assert (result.snps.tp, result.snps.tp_calls, result.snps.f1) == (2, 2, 1.0)


@pytest.mark.parametrize(
    ("truth", "call"),
    [
        ((11, "TA", "T", "0/1"), (16, "AA", "A", "0/1")),  # a base of the homopolymer
        ((32, "TAC", "T", "1/1"), (38, "CAC", "C", "1/1")),  # a unit of the repeat
        ((11, "T", "TA", "0/1"), (17, "A", "AA", "0/1")),
    ],
)
def test_compare__indel_in_a_repeat_written_elsewhere(compared, truth, call):
    result = compared([truth], [call])
    assert result.indels is not None
    assert (result.indels.tp, result.indels.fp) == (1, 0)


def test_compare__other_records_that_spell_the_same_haplotype(compared):
    # ACGT[TAG]CC: deleting TA and changing G, or replacing TAG by its own last base written as one complex record.
    result = compared([(4, "TTA", "T", "0/1"), (7, "G", "C", "0/1")], [(5, "TAG", "C", "0/1")])
    assert (result.all.tp, result.all.fn, result.all.tp_calls, result.all.fp) == (2, 0, 1, 0)


def test_compare__an_indel_behind_a_snp_of_its_haplotype_is_compared_where_it_stands(compared):
    # Left-aligned through the run of A, the insertion would pass the SNP and spell another sequence.
    two, one = [(14, "A", "G", "0/1"), (17, "A", "AA", "0/1")], [(14, "AAAA", "GAAAA", "0/1")]
    for truth, calls in ((two, one), (one, two)):
        result = compared(truth, calls)
        assert (result.all.fn, result.all.fp, result.all.genotype_errors) == (0, 0, 0)
    assert compared(two, [(14, "AAAA", "AAGAA", "0/1")]).all.fn == 2


def test_compare__same_haplotype_in_other_copies_does_not_match(compared):
    result = compared([(4, "TTA", "T", "0/1"), (7, "G", "C", "0/1")], [(5, "TAG", "C", "1/1")])
    assert (result.all.tp, result.all.tp_calls) == (0, 0)


def test_compare__a_false_call_nearby_spoils_nothing(compared):
    truth = [(4, "TTA", "T", "0/1"), (7, "G", "C", "0/1")]
    result = compared(truth, [(5, "TAG", "C", "0/1"), (22, "C", "T", "0/1")])
    assert (result.all.tp, result.all.tp_calls, result.all.fp) == (2, 1, 1)


def test_compare__outside_the_regions_nothing_counts(tmp_path, reference):
    bed = tmp_path / "part.bed"
    bed.write_text("c1\t50\t100\n")
    truth = vcf(tmp_path / "t.vcf.gz", [(5, "T", "C", "0/1"), (80, "G", "A", "0/1")])
    calls = vcf(tmp_path / "c.vcf.gz", [(50, "T", "A", "0/1"), (101, "G", "A", "0/1")])
    result = compare(truth, calls, bed, reference)
    assert (result.snps.fn, result.snps.fp) == (1, 0)


def test_compare__nothing_on_either_side(compared):
    result = compared([], [])
    assert result.indels is not None
    for figures in (result.snps, result.indels, result.all):
        assert (figures.tp, figures.fn, figures.fp) == (0, 0, 0)
        assert figures.precision is figures.recall is figures.f1 is None
    assert interval([result]) is None


def test_compare__no_calls_is_the_worst_and_not_unknown(compared):
    result = compared([(5, "T", "C", "0/1")], [])
    assert (result.snps.precision, result.snps.recall, result.snps.f1) == (None, 0.0, 0.0)


def test_compare__truth_of_substitutions_says_nothing_about_indels(tmp_path, reference, regions):
    headers = ["##fedcall_label_types=snps"]
    truth = vcf(tmp_path / "t.vcf.gz", [(5, "T", "C", "0/1")], headers=headers)
    calls = vcf(tmp_path / "c.vcf.gz", [(5, "T", "C", "0/1"), (12, "A", "AA", "0/1")])
    result = compare(truth, calls, regions, reference)
    assert result.label_types == "snps"
    assert result.indels is None
    assert (result.all.tp_calls, result.all.fp) == (1, 0)
    assert interval([result], "indels") is None


def test_compare__strata_and_calibration_add_up(compared):
    truth = [(5, "T", "C", "0/1"), (80, "G", "A", "1/1"), (12, "A", "AA", "0/1")]
    result = compared(truth, [(5, "T", "C", "0/1"), (80, "G", "A", "0/1")])
    zygosity = {(s.type, s.value): s.figures for s in result.strata if s.stratum == "zygosity"}
    assert (zygosity["snps", "het"].recall, zygosity["snps", "hom"].recall) == (1.0, 0.0)
    assert zygosity["indels", "het"].fn == 1
    homopolymer = {(s.type, s.value): s.figures for s in result.strata if s.stratum == "homopolymer"}
    assert homopolymer["indels", "4-6"].fn == 1
    assert [(b.low, b.calls, b.errors) for b in result.calibration if b.calls] == [(20, 2, 1)]
    assert len(result.blocks) == BLOCKS
    assert sum(block.snps.truth for block in result.blocks) == 2


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(5, "G", "C", "0/1")], "REF differs from"),
        ([(5, "T", "C", "0/1")], "no contig 'c1'"),
    ],
)
def test_compare__files_of_another_reference(tmp_path, reference, regions, records, message):
    contig = "c1" if "REF" in message else "c9"
    truth = vcf(tmp_path / "t.vcf.gz", records, contig=contig)
    calls = vcf(tmp_path / "c.vcf.gz", [])
    with pytest.raises(FedcallError, match=rf"t\.vcf\.gz: .*{message}") as error:
        compare(truth, calls, regions, reference)
    assert "\n" not in str(error.value)


def test_read_variants__samples(tmp_path, reference):
    path = vcf(tmp_path / "t.vcf.gz", [(5, "T", "C", "0/1")], ["a", "b"])
    where = [("c1", 0, 100)]
    assert len(read_variants(path, reference, where, "b")) == 1
    with pytest.raises(FedcallError, match=r"2 samples \(a, b\); name the patient"):
        read_variants(path, reference, where)
    with pytest.raises(FedcallError, match="no sample 'z'"):
        read_variants(path, reference, where, "z")


def test_read_variants__genotypes_and_filters(tmp_path, reference):
    records = [(5, "T", "C", "0/0"), (9, "C", "A", "./."), (21, "G", "A", "1"), (23, "A", "G", "./1")]
    path = vcf(tmp_path / "t.vcf.gz", records)
    found = read_variants(path, reference, [("c1", 0, 100)])
    assert [(variant.start, variant.dosage) for variant in found] == [(20, 2), (22, 1)]


def test_pool__counts_add_up_and_intervals_hold_the_figure(compared, tmp_path):
    good = compared([(5, "T", "C", "0/1"), (80, "G", "A", "0/1")], [(5, "T", "C", "0/1"), (80, "G", "A", "0/1")])
    bad = compared([(5, "T", "C", "0/1"), (80, "G", "A", "0/1")], [(5, "T", "C", "0/1"), (90, "G", "C", "0/1")])
    pooled = pool([good, bad])
    assert (pooled.patients, pooled.snps.tp, pooled.snps.fn, pooled.snps.fp) == (2, 3, 1, 1)
    assert len(pooled.blocks) == BLOCKS
    assert sum(b.calls for b in pooled.calibration) == 4
    found = interval([good, bad])
    assert found == interval([good, bad])
    assert found is not None
    assert found[0] < pooled.snps.f1 < found[1]
    assert interval([good]) == (1.0, 1.0)
    path = tmp_path / "pooled.json"
    path.write_text(pooled.model_dump_json())
    assert read_concordance(path) == pooled


def test_difference_interval__is_paired(compared):
    truth = [(5, "T", "C", "0/1"), (80, "G", "A", "0/1"), (101, "G", "A", "0/1")]
    good, bad = compared(truth, truth), compared(truth, truth[:1])
    assert difference_interval([bad, good], [bad, good]) == (0.0, 0.0)
    found = difference_interval([good, good], [bad, bad])
    assert found is not None
    assert 0 <= found[0] < 0.5 < found[1] <= 1
    with pytest.raises(ValueError, match="same patients"):
        difference_interval([good], [bad, bad])


def test_pool__nothing():
    with pytest.raises(ValueError, match="at least one"):
        pool([])


@st.composite
def people(draw: st.DrawFn) -> list[Variant]:
    found: dict[tuple[str, int, str, str], Variant] = {}
    for start in draw(st.lists(st.integers(1, 280), max_size=25)):
        ref = SEQUENCE[start : start + draw(st.integers(1, 4))]
        alt = draw(st.sampled_from([ref[0], ref[0] + "C", *(base for base in "ACGT" if base != ref[0])]))
        if alt != ref:
            variant = Variant("c1", start, ref, alt, draw(st.integers(1, 2)))
            found[variant.key] = variant
    return sorted(found.values(), key=lambda variant: variant.key)


@settings(max_examples=60, deadline=None)
@given(people())
def test_compare_variants__truth_against_itself_is_perfect(variants):
    result = compare_variants(variants, variants, [("c1", 0, 297)], fetch)
    assert result.all.fn == result.all.fp == result.all.genotype_errors == 0
    assert result.all.f1 == (1.0 if variants else None)


@settings(max_examples=60, deadline=None)
@given(people(), people())
def test_match__sides_can_be_exchanged_and_counts_are_consistent(truth, calls):
    forward, backward = match(truth, calls, fetch), match(calls, truth, fetch)
    assert forward == (backward[1], backward[0])
    keys = {variant.key: variant.dosage for variant in calls}
    for variant, verdict in zip(truth, forward[0], strict=True):
        if keys.get(variant.key) == variant.dosage:
            assert verdict is MatchLevel.GENOTYPE


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "f1"), [("snps", 0.977), ("indels", 0.764)])
def test_compare__bcftools_on_na12878_as_published(shared_data, tmp_path_factory, kind, f1):
    folder = shared_data / "na12878"
    reference, regions = folder / "reference.fa.gz", folder / "regions.bed"
    calls = tmp_path_factory.mktemp("calls") / "calls.vcf.gz"
    call_classical(folder / "NA12878.bam", reference, calls, regions)
    figures = getattr(compare(folder / "truth.vcf.gz", calls, regions, reference), kind)
    # shared/data/baselines.tsv was made with bcftools 1.16; one indel more or less moves its F1 by 0.017.
    assert figures.f1 == pytest.approx(f1, abs=0.02)


@pytest.mark.real_data
def test_compare__real_truth_against_itself_is_perfect(shared_data):
    folder = shared_data / "na12878"
    truth = folder / "truth.vcf.gz"
    result = compare(truth, truth, folder / "regions.bed", folder / "reference.fa.gz")
    assert (result.all.tp, result.all.f1, result.all.fp) == (173, 1.0, 0)
