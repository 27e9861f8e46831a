"""VCFs as other people write them: read like the plain file that says the same, or refused in one line."""

import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import Concordance, compare
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.genomics.truth.normalise_labels import LabelSummary, normalise_labels
from tiny_alignments import write_reference

BASES = "".join(random.Random(7).choices("ACGT", k=1_000))
BASES = BASES[:499] + "R" + BASES[500:600] + "C" + "A" * 12 + "G" + BASES[614:]
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}
GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">'
CONTIG = "##contig=<ID=c,length=1000>"
Line = tuple[int, str, str, str]


def record(position: int, ref: str, alt: str, genotype: str, keys: str = "GT", info: str = ".") -> str:
    return f"c\t{position}\t.\t{ref}\t{alt}\t50\tPASS\t{info}\t{keys}\t{genotype}"


def snp(position: int, genotype: str = "0/1") -> str:
    return record(position, BASES[position - 1], OTHER[BASES[position - 1]], genotype)


def vcf(path: Path, lines: Sequence[str], header: Sequence[str] = (CONTIG, GT), samples: str = "s1") -> Path:
    columns = f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{samples}"
    path.write_text("\n".join(["##fileformat=VCFv4.2", *header, columns, *lines]) + "\n")
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path, {"c": BASES})


@pytest.fixture
def compared(tmp_path: Path, reference: Path) -> Callable[[Path, Path], Concordance]:
    bed = tmp_path / "regions.bed"
    bed.write_text("c\t0\t1000\n")
    return lambda truth, calls: compare(truth, calls, bed, reference)


@pytest.fixture
def labelled(tmp_path: Path, reference: Path) -> Callable[..., tuple[list[str], LabelSummary]]:
    def run(path: Path, sample: str | None = None) -> tuple[list[str], LabelSummary]:
        summary = normalise_labels(path, reference, tmp_path / "out.vcf.gz", sample=sample)
        with pysam.BGZFile(str(tmp_path / "out.vcf.gz")) as handle:
            rows = [line.split("\t") for line in handle.read().decode().splitlines() if line[0] != "#"]
        return [f"{row[1]} {row[9]}" for row in rows], summary

    return run


@pytest.mark.parametrize("twice", ["calls", "truth"])
def test_compare__a_repeated_record_is_one_statement(tmp_path, compared, twice) -> None:
    once, copied = vcf(tmp_path / "1.vcf", [snp(100)]), vcf(tmp_path / "2.vcf", [snp(100), snp(100)])
    figures = compared(copied, once) if twice == "truth" else compared(once, copied)
    assert (figures.snps.tp, figures.snps.tp_calls, figures.snps.fp, figures.snps.genotype_errors) == (1, 1, 0, 0)


@pytest.mark.parametrize("genotype", ["0/1", "0|1"])
def test_compare__two_deletions_in_a_repeat_are_what_their_haplotypes_spell(tmp_path, compared, genotype) -> None:
    two = [record(603, "AA", "A", genotype), record(608, "AA", "A", genotype)]
    joined = vcf(tmp_path / "joined.vcf", [record(601, "CAA", "C", "0/1")])
    apart, single = vcf(tmp_path / "apart.vcf", two), vcf(tmp_path / "single.vcf", [record(601, "CA", "C", "1/1")])
    for figures in (compared(joined, apart), compared(apart, joined), compared(apart, apart)):
        assert figures.indels is not None
        assert (figures.indels.fn, figures.indels.fp) == (0, 0)
    # On one haplotype they are no homozygous deletion of one base; unphased they may be.
    found = compared(single, apart).indels
    assert found is not None
    assert (found.fp == 0) is (genotype == "0/1")


def test_compare__alleles_of_two_records_at_one_place_add_up(tmp_path, compared) -> None:
    first, second, third = BASES[99], BASES[100], OTHER[BASES[100]]
    ref, new = first + second, OTHER[first]
    split = [record(100, ref, new + third, "0/1"), record(100, ref, new + OTHER[third], "0/1")]
    if OTHER[third] == second:
        split[1] = record(100, ref, new + OTHER[second], "0/1")
    figures = compared(vcf(tmp_path / "t.vcf", [record(100, first, new, "1/1")]), vcf(tmp_path / "c.vcf", split))
    assert figures.snps.tp == 1


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("a,b", "a"),
        ("^a", "b"),
        ("-", "x"),
        ("--help", "x"),
        ("Smith J", "Smith"),
        ("@list", "x"),
        ("a:b", "a"),
        ("Åse", "x"),
    ],
)
def test_normalise_labels__any_name_is_a_name(tmp_path, labelled, name, others) -> None:
    place = f"c\t200\t.\t{BASES[199]}\t{OTHER[BASES[199]]}\t50\tPASS\t.\tGT\t0/1\t1/1"
    path = vcf(tmp_path / "t.vcf", [place], samples=f"{others}\t{name}")
    rows, summary = labelled(path, name)
    assert (rows, summary.sample) == (["200 1/1"], name)


@pytest.mark.parametrize("write", [gzip.open, pysam.BGZFile], ids=["gzip", "bgzip"])
def test_normalise_labels__compressed_either_way(tmp_path, labelled, compared, write) -> None:
    plain = vcf(tmp_path / "t.vcf", [snp(100)])
    with write(str(tmp_path / "t.vcf.gz"), "wb") as handle:
        handle.write(plain.read_bytes())
    assert labelled(tmp_path / "t.vcf.gz")[0] == ["100 0/1"]
    assert compared(tmp_path / "t.vcf.gz", plain).snps.tp == 1


@pytest.mark.parametrize("size", [-1, -28, -40])
def test_normalise_labels__a_file_that_breaks_off(tmp_path, labelled, size) -> None:
    with pysam.BGZFile(str(tmp_path / "t.vcf.gz"), "wb") as handle:
        handle.write(vcf(tmp_path / "t.vcf", [snp(100)]).read_bytes())
    content = (tmp_path / "t.vcf.gz").read_bytes()
    (tmp_path / "t.vcf.gz").write_bytes(content[:size])
    with pytest.raises(FedcallError, match=r"t\.vcf\.gz: truncated"):
        labelled(tmp_path / "t.vcf.gz")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([snp(100), ""], r"t\.vcf:6: an empty line"),
        ([snp(100), "c\t200\t.\tA"], r"t\.vcf:6: 4 tab-separated columns where the header promises 10"),
        ([snp(100, "a/b")], r"t\.vcf: c:100: 'a/b' is no genotype"),
        ([snp(100).replace("\t", " ")], r"t\.vcf:5: 1 tab-separated columns"),
        ([snp(100).replace("100", "1e2")], r"t\.vcf:5: .*POS '1e2'"),
        ([snp(100).replace("100", "-1")], r"t\.vcf:5: .*POS '-1'"),
        ([snp(100) + "\t0/1"], r"t\.vcf:5: 11 tab-separated columns"),
        ([record(1_000, BASES[-1] + "A", "A", "0/1")], r"t\.vcf: c:1000: REF reaches beyond the end of 'c'"),
    ],
)
def test_read_rows__malformed_rows_name_their_place(tmp_path, labelled, compared, lines, said) -> None:
    path = vcf(tmp_path / "t.vcf", lines)
    for read in (labelled, lambda path: compared(path, path)):
        with pytest.raises(FedcallError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("##fileformat=VCFv4.2\n".encode("utf-16"), "UTF-16 text"),
        (b"", "no '##fileformat'"),
        (b"hello\n", "no '##fileformat'"),
        (b"##fileformat=VCFv4.2\n", "no line '#CHROM"),
        (b"##fileformat=VCFv4.2\n#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT s1\n", "tab-separated"),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\ts\n", "'s' is there twice"),
    ],
)
def test_read_rows__no_vcf_at_all(tmp_path, labelled, content, said) -> None:
    (tmp_path / "t.vcf").write_bytes(content)
    with pytest.raises(FedcallError, match=said):
        labelled(tmp_path / "t.vcf")


@pytest.mark.parametrize(
    ("field", "number", "kind", "value"),
    [
        ("AD", "1", "Integer", "15"),
        ("DP", ".", "Integer", "30,20"),
        ("GQ", "1", "String", "high"),
        ("AD", ".", "String", "15,15"),
        ("AD", "R", "Integer", ".,."),
        ("AD", "R", "Integer", "15"),
        ("GQ", "1", "Float", "nan"),
        ("GQ", "1", "Float", "inf"),
        ("GQ", "G", "Integer", "1,2,3"),
        ("DP", "0", "Flag", ""),
    ],
)
def test_compare__fields_of_other_types_count_as_missing(tmp_path, compared, field, number, kind, value) -> None:
    header = (CONTIG, GT, f'##FORMAT=<ID={field},Number={number},Type={kind},Description="x">')
    line = record(100, BASES[99], OTHER[BASES[99]], f"0/1:{value}", f"GT:{field}")
    calls = vcf(tmp_path / "calls.vcf", [line.replace("\t50\t", "\thigh\t")], header)
    figures = compared(vcf(tmp_path / "truth.vcf", [snp(100)]), calls)
    assert figures.snps.tp == 1
    assert sum(bin.calls for bin in figures.calibration) == 0


UNDECLARED = record(100, BASES[99], OTHER[BASES[99]], "0/1:5", "GT:XX", "DP=30;AF").replace("PASS", "PASS")
AS_TAGS = record(100, BASES[99], OTHER[BASES[99]] + ",<NON_REF>", "0/1:74:1,2", "GT:GQ:PL", "AS_RAW_MQ=1|2|0;MLEAC=1")


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (UNDECLARED, (CONTIG, GT)),
        (UNDECLARED, (CONTIG,)),
        (UNDECLARED, ()),
        (AS_TAGS, (CONTIG, GT, '##INFO=<ID=AS_RAW_MQ,Number=A,Type=Float,Description="x">', "##ALT=<ID=NON_REF>")),
        (snp(100), ("##contig=<ID=other,length=5>", "##contig=<ID=c>", GT)),
        (snp(100, "|0/1"), (CONTIG, GT)),
        (snp(100) + "\r", (CONTIG + "\r", GT)),
        (snp(100) + "\t", (CONTIG, GT)),
    ],
)
def test_read_rows__headers_need_not_fit(tmp_path, labelled, compared, line, header) -> None:
    path = vcf(tmp_path / "t.vcf", [line], header)
    assert labelled(path)[0] == ["100 0/1"]
    assert compared(path, vcf(tmp_path / "c.vcf", [snp(100)])).snps.tp == 1


def test_read_rows__records_in_any_order(tmp_path, labelled) -> None:
    assert labelled(vcf(tmp_path / "t.vcf", [snp(300), snp(100), snp(200)]))[0] == ["100 0/1", "200 0/1", "300 0/1"]


def test_compare__no_contig_in_common_is_refused_without_contig_lines(tmp_path, compared) -> None:
    path = vcf(tmp_path / "t.vcf", [snp(100).replace("c\t", "chrC\t")], (GT,))
    with pytest.raises(FedcallError, match=r"no contig in common .*found chrC"):
        compared(path, path)


def test_compare__an_index_of_an_older_file_is_not_believed(tmp_path, compared) -> None:
    import os

    plain = vcf(tmp_path / "t.vcf", [snp(100)])
    indexed = Path(pysam.tabix_index(str(plain), preset="vcf", keep_original=True))
    os.utime(f"{indexed}.tbi", (1, 1))
    with pysam.BGZFile(str(indexed), "wb") as handle:
        handle.write(vcf(tmp_path / "n.vcf", [snp(200), snp(300)]).read_bytes())
    os.utime(f"{indexed}.tbi", (1, 1))
    assert compared(indexed, tmp_path / "n.vcf").snps.tp == 2


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (record(500, "N", "C", "0/1"), "not spelled in bases"),
        (record(500, "R", "C", "0/1"), "not spelled in bases"),
        (record(200, BASES[199], "R", "0/1"), "not spelled in bases"),
        (record(200, BASES[199], f"{BASES[199]},{OTHER[BASES[199]]}", "2/1"), "equal to REF"),
        (record(0, "N", "<DEL>", "0/1"), "not spelled in bases"),
        (record(1_001, "N", "<DEL>", "0/1"), "not spelled in bases"),
        (record(200, BASES[199], f"{BASES[199]}[c:300[", "0/1"), "not spelled in bases"),
        (record(200, BASES[199], "*", "0/1"), "deleted by another record"),
        (record(200, BASES[199], ".", "0/1"), "beyond the alleles of their record"),
        (record(200, BASES[199], OTHER[BASES[199]], "0/2"), "beyond the alleles of their record"),
        (snp(200).replace("c\t", "decoy\t"), "on contigs that the reference lacks"),
    ],
)
def test_read_rows__one_odd_record_costs_no_other(tmp_path, labelled, compared, odd, reason) -> None:
    path = vcf(tmp_path / "t.vcf", [odd, snp(100)])
    rows, summary = labelled(path)
    assert "100 0/1" in rows
    assert summary.dropped == {reason: 1}
    figures = compared(path, path)
    assert (figures.snps.fn, figures.snps.fp) == (0, 0)


def test_compare__says_what_it_left_out(tmp_path, compared) -> None:
    path = vcf(tmp_path / "t.vcf", [record(500, "N", "C", "0/1"), snp(100)])
    assert compared(path, vcf(tmp_path / "c.vcf", [])).left_out == {"truth: not spelled in bases": 1}


BLOCK = "c\t{}\t.\t{}\t<NON_REF>\t.\t.\tEND={}\tGT:GQ\t{}"


def gvcf(path: Path, *lines: str, header: Sequence[str] = ()) -> Path:
    return vcf(path, lines, header=(CONTIG, *header))


@pytest.mark.parametrize(
    ("unsure", "expected"),
    [
        (record(100, BASES[99:104], BASES[99] + ",<NON_REF>", "0/1:3", "GT:GQ"), [("c", 0, 99), ("c", 104, 200)]),
        (BLOCK.format(50, BASES[49], 60, "0/0:5"), [("c", 0, 49), ("c", 60, 200)]),
        (BLOCK.format(101, BASES[100], 120, "./.:50"), [("c", 0, 100), ("c", 120, 200)]),
        (BLOCK.format(150, BASES[149], 400, "0/0:nan"), [("c", 0, 149)]),
    ],
)
def test_write_confident_regions__what_one_record_is_unsure_about(
    tmp_path: Path, reference: Path, unsure: str, expected: list[tuple[str, int, int]]
) -> None:
    """No header line declares END, GT or GQ; the block around is sure."""
    blocks = [BLOCK.format(1, BASES[0], 100, "0/0:50"), BLOCK.format(101, BASES[100], 200, "0/0:50")]
    write_confident_regions(gvcf(tmp_path / "g.vcf", *blocks, unsure), reference, tmp_path / "o.bed")
    assert read_regions(tmp_path / "o.bed", reference) == expected


def test_write_confident_regions__an_end_before_its_start(tmp_path: Path, reference: Path) -> None:
    path = gvcf(tmp_path / "g.vcf", BLOCK.format(100, BASES[99], 7, "0/0:50"))
    with pytest.raises(FedcallError, match=r"g\.vcf: c:100: END is '7'"):
        write_confident_regions(path, reference, tmp_path / "o.bed")
