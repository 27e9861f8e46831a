"""Files of the formats' odd corners, written by hypothesis: no traceback, no silent difference from htslib."""

import gzip
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walk import compare_variants

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import compare
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.genomics.truth.labels import label_types
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.workflow.configuration import read_samples
from tiny_alignments import write_reference

EXAMPLES = int(os.environ.get("FEDCALL_WILD_EXAMPLES", "40"))
wild = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

BASES = "".join(random.Random(5).choices("ACGT", k=120)) + "R" + "CA" * 10 + "A" * 12 + "N" * 5 + "GATTACA" * 5
LENGTH = len(BASES)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedcall-wild-") as name:
        write_reference(Path(name), {"c": BASES, "d": BASES[::-1]})
        (Path(name) / "r.bed").write_text(f"c\t0\t{LENGTH}\nd\t0\t{LENGTH}\n")
        yield Path(name)


values = st.sampled_from(["1", "30", ".", "1,2", "nan", "-5", "x", "", "1e400", "0.5", "99999999999", "a,b"])
names = st.sampled_from(["s1", "a,b", "^a", "-s", "NA 1", "x:y", "é", "c", "##"])
genotypes = st.one_of(
    st.sampled_from(
        ["0/1", "0|1", "1/1", "1", "./.", ".", "0/0", "1|0", "./1", "0/1/1", "1/2", "2|1", "0/9", "/1", "|0|1"]
    ),
    st.sampled_from(["a/b", "", "0/", "1//1", "-1/0"]),
)


@st.composite
def records(draw: st.DrawFn, people: int) -> str:
    contig = draw(st.sampled_from(["c", "c", "c", "d", "decoy"]))
    position = draw(st.integers(0, LENGTH + 1))
    sequence = BASES if contig != "d" else BASES[::-1]
    ref = sequence[max(0, position - 1) : max(0, position - 1) + draw(st.integers(1, 4))] or "N"
    ref = draw(st.sampled_from([ref, ref, ref, ref, ref.lower(), "N", "R"]))
    base = st.sampled_from([ref[:1], "A", "C", "G", "T", "CA", "AC", ref + "A", ref[:1] + "CACA", "t"])
    odd = st.sampled_from(["<DEL>", "*", "<NON_REF>", "<*>", "R", "N", ref, "]c:5]A", "A[c:9[", ".A"])
    alts = draw(st.one_of(st.just(["."]), st.lists(st.one_of(base, base, odd), min_size=1, max_size=3)))
    keys = ["GT", *draw(st.lists(st.sampled_from(["AD", "DP", "GQ", "PL", "PS", "XX"]), unique=True, max_size=4))]
    columns = [":".join([draw(genotypes), *(draw(values) or "." for _ in keys[1:])]) for _ in range(people)]
    info = draw(st.sampled_from([".", "DP=3", "AF", "AS_RAW_MQ=1|2", "END=9", "AC=1,2;AN=x", ""]))
    fixed = [contig, str(position), draw(st.sampled_from([".", "rs1"])), ref, ",".join(alts), draw(values) or "."]
    fixed += [draw(st.sampled_from(["PASS", ".", "low", "PASS", "q10;low"])), info or "."]
    return "\t".join([*fixed, ":".join(keys), *columns])


@st.composite
def variant_files(draw: st.DrawFn) -> bytes:
    people = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    header = ["##fileformat=VCFv4.2"]
    header += draw(
        st.sampled_from([[f"##contig=<ID={name},length={LENGTH}>" for name in "cd"], [], ["##contig=<ID=c>"]])
    )
    for key in draw(st.lists(st.sampled_from(["GT", "AD", "DP", "GQ", "PL", "PS"]), unique=True)):
        kind = draw(st.sampled_from(["Integer", "String", "Float"])) if key != "GT" else "String"
        number = draw(st.sampled_from(["1", ".", "R", "G", "A", "2"])) if key != "GT" else "1"
        header.append(f'##FORMAT=<ID={key},Number={number},Type={kind},Description="x">')
    header += draw(st.lists(st.sampled_from(['##INFO=<ID=AS_RAW_MQ,Number=A,Type=Float,Description="x">', "##x=y"])))
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *people])
    rows = draw(st.lists(records(len(people)), max_size=6))
    rows += draw(st.sampled_from([[], [], [], [], [], [""], ["c\t5"], rows[:1]]))
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    return (end.join([*header, columns, *rows]) + draw(st.sampled_from([end, end, ""]))).encode()


def written(folder: Path, content: bytes, how: str) -> Path:
    path = folder / ("w.vcf" if how == "plain" else "w.vcf.gz")
    if how == "bgzip":
        with pysam.BGZFile(str(path), "wb") as handle:
            handle.write(content)
    else:
        path.write_bytes(content if how == "plain" else gzip.compress(content))
    return path


def said_in_one_line(error: FedcallError) -> None:
    assert "\n" not in str(error)


@wild
@given(variant_files(), st.sampled_from(["plain", "gzip", "bgzip"]))
def test_vcf__the_records_of_htslib_or_one_line(folder: Path, content: bytes, how: str) -> None:
    outcome = compare_variants(written(folder, content, how))
    assert outcome.outcome in ("same", "refused"), outcome


@wild
@given(variant_files(), st.sampled_from(["plain", "gzip", "bgzip"]))
def test_vcf__every_reader_ends_or_says_why(folder: Path, content: bytes, how: str) -> None:
    path, reference = written(folder, content, how), folder / "reference.fa"
    sample = content.decode().split("#CHROM")[1].splitlines()[0].split("\t")[-1]
    readers = (
        lambda: normalise_labels(path, reference, folder / "o.vcf.gz", sample=sample),
        lambda: label_types(path),
        lambda: write_confident_regions(path, reference, folder / "o.bed", sample=sample),
    )
    for read in readers:
        try:
            read()
        except FedcallError as error:
            said_in_one_line(error)
    try:
        normalise_labels(path, reference, folder / "o.vcf.gz", sample=sample)
        found = compare(path, folder / "o.vcf.gz", folder / "r.bed", reference, sample)
    except FedcallError as error:
        said_in_one_line(error)
    else:
        assert found.all.allele_fn == 0


lines = st.one_of(
    st.tuples(st.sampled_from(["c", "d"]), st.integers(0, 60), st.integers(0, 60)).map(
        lambda row: f"{row[0]}\t{min(row[1:])}\t{max(row[1:])}"
    ),
    st.sampled_from(["", "# x", "track name=x", "browser hide all", "c 1 9", "c\t1\t9\tn\xe9", "c\t5\t5", "   "]),
    st.sampled_from(["c\t9\t1", "c\t-1\t5", "x\t1\t2", "c\t1", "chrom\tstart\tend", "c\t1\t1000", "\x00"]),
)


@wild
@given(st.lists(lines, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_bed__the_bases_that_its_lines_name_or_one_line(folder: Path, rows: list[str], end: str, packed: bool) -> None:
    content = end.join(rows).encode("latin-1")
    path = folder / "w.bed"
    path.write_bytes(gzip.compress(content) if packed else content)
    fields = [row.split() for row in rows]
    named = {
        (row[0], base)
        for row in fields
        if len(row) > 2 and row[1].isdecimal() and row[2].isdecimal()
        for base in range(int(row[1]), int(row[2]))
    }
    try:
        found = read_regions(path, folder / "reference.fa")
    except FedcallError as error:
        said_in_one_line(error)
    else:
        assert {(contig, base) for contig, start, stop in found for base in range(start, stop)} == named


cells = st.sampled_from(["P1", '"P1', '"P1"', 'P"1', "é", " P1 ", "", '""', '"a\tb"', "'", "#", "P1\x0b", "\u2028"])


@wild
@given(
    st.lists(st.tuples(st.integers(0, 99), cells), max_size=5),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_sheet__every_row_or_one_line(folder: Path, rows: list[tuple[int, str]], encoding: str, end: str) -> None:
    header = "\t".join(["patient", "site", "alignments", "truth", "regions", "split", "sample"])
    table = [f"P{number}\tnorth\tr.bed\t\t\ttrain\t{cell}" for number, cell in rows]
    (folder / "w.tsv").write_bytes(end.join([header, *table]).encode(encoding, errors="replace"))
    try:
        found = read_samples(folder / "w.tsv")
    except FedcallError as error:
        said_in_one_line(error)
    else:
        assert [patient.patient for patient in found] == [f"P{number}" for number, _ in rows]
