"""BED files as other programs and people write them."""

import gzip
from pathlib import Path

import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.regions import read_regions, subtract_spans
from tiny_alignments import write_reference

NAMES = ("c", "track", "browser2", "track1", "d")


@pytest.fixture
def regions(tmp_path: Path):
    reference = write_reference(tmp_path, dict.fromkeys(NAMES, "ACGT" * 25))

    def read(content: bytes, name: str = "r.bed") -> list[tuple[str, int, int]]:
        (tmp_path / name).write_bytes(content)
        return read_regions(tmp_path / name, reference)

    return read


@pytest.mark.parametrize(
    "content",
    [
        b"c\t1\t9\n",
        b"c\t1\t9\tname\t0\t+\textra\n",
        b"c 1 9\n",
        b"c   1  9  name\n",
        b"c\t1\t9\r\n\r\n",
        b"\xef\xbb\xbfc\t1\t9",
        b"\n\n# comment\nbrowser position c:1-9\ntrack name='x' description=\"c 1 9\"\nc\t1\t9\n",
        b"c\t1\t9\n\n  \n\t\n",
        b"c\t1\t9\nc\t20\t20\n",
        b"c\t1\t5\nc\t5\t9\nc\t2\t3\n",
        b"c\t1\t9\tn\xe9vus\n",
        b"c\t1\t9\tline\x0bend\n",
    ],
)
def test_read_regions__what_bedtools_reads(regions, content) -> None:
    assert regions(content) == [("c", 1, 9)]
    assert regions(gzip.compress(content), "r.bed.gz") == [("c", 1, 9)]


def test_read_regions__contigs_may_be_called_like_settings(regions) -> None:
    content = b"track1\t0\t5\ntrack\t0\t5\nbrowser2\t0\t5\n"
    assert regions(content) == [("track", 0, 5), ("browser2", 0, 5), ("track1", 0, 5)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no regions"),
        (b"c\t5\t5\n", "no regions"),
        (b"c\t9\t1\n", r"r\.bed:1: c:9-1 is not a region"),
        (b"c\t0\t101\n", r"r\.bed:1: c:0-101 is not a region of a contig of 100 bases"),
        (b"c\t-1\t9\n", r"r\.bed:1: c:-1-9"),
        (b"chrom\tstart\tend\nc\t1\t9\n", r"r\.bed:1: found 'chrom\tstart\tend'; needed"),
        (b"\nc\t1\n", r"r\.bed:2: found 'c\t1'"),
        (b"c\t1_0\t20\n", r"r\.bed:1: found"),
        (b"c\t1e1\t20\n", r"r\.bed:1: found"),
        (b"z\t1\t9\n", r"r\.bed:1: contig 'z' is not in"),
        ("c\t1\t9\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"c\t1\t9\n", mtime=0)[:-9], "breaks off"),
        (b"\x1f\x8bnonsense", "not a BED file"),
    ],
)
def test_read_regions__refuses_in_one_line(regions, content, said) -> None:
    with pytest.raises(FedcallError, match=said) as caught:
        regions(content)
    assert "\n" not in str(caught.value)


def test_read_regions__a_bgzipped_file_that_breaks_off_between_blocks(regions, tmp_path: Path) -> None:
    with pysam.BGZFile(str(tmp_path / "x.bed.gz"), "wb") as handle:
        handle.write(b"c\t1\t9\n")
    whole = (tmp_path / "x.bed.gz").read_bytes()
    assert regions(whole) == [("c", 1, 9)]
    with pytest.raises(FedcallError, match="truncated"):
        regions(whole[:-28])


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair))), max_size=8)


@given(spans, spans)
def test_subtract_spans__is_the_difference_of_sets(some, others) -> None:
    def bases(pairs) -> set[int]:
        return {base for start, end in pairs for base in range(start, end)}

    left = subtract_spans(some, others)
    assert bases(left) == bases(some) - bases(others)
    assert left == sorted(left)
    assert all(start < end for start, end in left)
