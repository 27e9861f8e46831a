"""What `genomics.reads.opening` accepts and refuses; broken files are tested through the shell in tests/cli."""

import gzip
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.reads.opening import check_alignments
from fedcall.genomics.reference import open_reference, reference_contigs, shared_contigs
from fedcall.genomics.regions import merge_spans, read_regions, widen_regions
from tiny_alignments import Read, write_alignments, write_reference

SPANS = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 30)).map(lambda span: (span[0], span[0] + span[1])))


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa"
    path.write_text(">b\n" + "ACGT" * 25 + "\n>a\n" + "ACGT" * 5 + "\n")
    Path(f"{path}.fai").write_text("b\t100\t3\t100\t101\na\t20\t107\t20\t21\n")
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_read_regions__come_merged_in_the_order_of_the_reference(reference: Path, tmp_path: Path) -> None:
    bed = write(
        tmp_path / "r.bed", "# comment\ntrack name=x\na\t0\t5\nb\t50\t60\tname\nb\t10\t20\nb\t20\t30\nb\t12\t15\n\n"
    )
    assert read_regions(bed, reference) == [("b", 10, 30), ("b", 50, 60), ("a", 0, 5)]


def test_read_regions__reads_gzipped_files(reference: Path, tmp_path: Path) -> None:
    bed = tmp_path / "r.bed.gz"
    bed.write_bytes(gzip.compress(b"a\t3\t7\n"))
    assert read_regions(bed, reference) == [("a", 3, 7)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b\t0\t10\nc\t0\t10\n", r"r\.bed:2: contig 'c' is not in .*reference\.fa \(which has b, a\)"),
        ("a\t0\t21\n", r"r\.bed:1: a:0-21 is not a region of a contig of 20 bases"),
        ("a\t5\t5\n", r"r\.bed: no regions"),
        ("a\t-1\t5\n", r"r\.bed:1: a:-1-5 is not"),
        ("a\tx\t5\n", r"r\.bed:1: found 'a\tx\t5'"),
        ("# nothing\n", r"r\.bed: no regions"),
    ],
)
def test_read_regions__names_the_bad_line(reference: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FedcallError, match=said):
        read_regions(write(tmp_path / "r.bed", text), reference)


def test_read_regions__refuses_a_binary_file(reference: Path, tmp_path: Path) -> None:
    bed = tmp_path / "r.bed"
    bed.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(FedcallError, match="breaks off in the middle"):
        read_regions(bed, reference)


@given(SPANS)
def test_merge_spans__covers_the_same_bases_with_spans_apart(spans: list[tuple[int, int]]) -> None:
    merged = merge_spans(spans)
    assert {base for span in merged for base in range(*span)} == {base for span in spans for base in range(*span)}
    assert all(first[1] < second[0] for first, second in pairwise(merged))


@given(SPANS, st.integers(0, 40))
def test_widen_regions__adds_exactly_the_margin_within_the_contig(spans: list[tuple[int, int]], margin: int) -> None:
    widened = widen_regions([("a", *span) for span in spans], margin, {"a": 110})
    wanted = {base for start, end in spans for base in range(start - margin, end + margin) if 0 <= base < 110}
    assert {base for _, start, end in widened for base in range(start, end)} == wanted


def test_shared_contigs__ignores_contigs_of_one_side(reference: Path) -> None:
    assert shared_contigs(Path("x.bam"), {"chrM": 5, "a": 20}, reference) == ["a"]


def test_shared_contigs__takes_an_unknown_length_on_trust(reference: Path) -> None:
    assert shared_contigs(Path("x.vcf"), {"a": None, "b": None}, reference) == ["b", "a"]


@pytest.mark.parametrize(
    ("contigs", "wanted", "said"),
    [
        ({"chra": 20}, None, "x.bam: no contig in common with .* \\(found chra; reference has b, a\\)"),
        ({"a": 21}, None, "x.bam: contig 'a' has 21 bases, but 20 in"),
        ({"a": 20}, {"b"}, "x.bam: no contig 'b' \\(found a\\)"),
        ({"c": 20}, {"c"}, "reference.fa: no contig 'c'"),
    ],
)
def test_shared_contigs__names_file_and_contig(
    reference: Path, contigs: dict[str, int | None], wanted: set[str] | None, said: str
) -> None:
    with pytest.raises(FedcallError, match=said):
        shared_contigs(Path("x.bam"), contigs, reference, wanted)


def test_shared_contigs__of_unwanted_contigs_lengths_do_not_matter(reference: Path) -> None:
    assert shared_contigs(Path("x.bam"), {"a": 20, "b": 7}, reference, {"a"}) == ["a"]


def test_reference_contigs__needs_the_index(reference: Path) -> None:
    Path(f"{reference}.fai").unlink()
    with pytest.raises(FedcallError, match=r"index reference\.fa\.fai is missing; make it with: samtools faidx"):
        reference_contigs(reference)
    assert not Path(f"{reference}.fai").exists()


def test_reference_contigs__of_a_bgzipped_file_needs_both_indexes(reference: Path) -> None:
    compressed = Path(f"{reference}.gz")
    compressed.write_bytes(gzip.compress(reference.read_bytes()))
    Path(f"{compressed}.fai").write_text(Path(f"{reference}.fai").read_text())
    with pytest.raises(FedcallError, match=r"index reference\.fa\.gz\.gzi is missing"):
        reference_contigs(compressed)


def test_reference_contigs__refuses_what_is_no_index(reference: Path) -> None:
    Path(f"{reference}.fai").write_text("hello\n")
    with pytest.raises(FedcallError, match="not a FASTA index"):
        reference_contigs(reference)


def test_open_reference__reads_bases(reference: Path) -> None:
    with open_reference(reference) as bases:
        assert bases.fetch("a", 0, 6) == "ACGTAC"


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "name"), [("ceu_1000g", "NA06984"), ("na12878", "NA12878")])
def test_check_alignments__accepts_real_files(shared_data: Path, folder: str, name: str) -> None:
    check_alignments(shared_data / folder / f"{name}.bam", shared_data / folder / "reference.fa.gz")


@pytest.mark.real_data
def test_check_alignments__refuses_a_contig_the_reference_lacks(shared_data: Path) -> None:
    folder = shared_data / "na12878"
    with pytest.raises(FedcallError, match=r"reference\.fa\.gz: no contig 'chr19'"):
        check_alignments(folder / "NA12878.bam", folder / "reference.fa.gz", ["chr19"])


@pytest.mark.parametrize("first", [0, 1, 50])
def test_check_alignments__an_index_that_knows_fewer_reads_is_refused(tmp_path: Path, first: int) -> None:
    """htslib reads what such an index knows, and nobody misses the others."""
    bases = "ACGTTGCA" * 2_500
    reference = write_reference(tmp_path, {"c": bases})
    reads = [Read(200 * k, "100M", bases[200 * k : 200 * k + 100]) for k in range(99)]
    old = write_alignments(tmp_path, {"c": 20_000}, reads[:first], "old.bam")
    new = write_alignments(tmp_path, {"c": 20_000}, reads, "new.bam")
    check_alignments(old, reference)
    check_alignments(new, reference)
    shutil.copy(f"{old}.bai", f"{new}.bai")
    with pytest.raises(FedcallError, match=r"new\.bam\.bai: the index .* of the file as it is; make .*samtools index"):
        check_alignments(new, reference)
