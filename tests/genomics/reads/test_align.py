"""Reads to alignments: where they came from, in pairs, and nothing lost."""

import gzip
import random
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.reads.align import align_reads

draw = random.Random(7)
SEQUENCE = "".join(draw.choice("ACGT") for _ in range(6_000))
COMPLEMENT = str.maketrans("ACGT", "TGCA")
PLACES = sorted(draw.sample(range(5_500), 60))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.fa"
    path.write_text(f">chr1\n{SEQUENCE}\n")
    pysam.faidx(str(path))
    return path


def fastq(path: Path, reads: list[str], mate: int) -> Path:
    text = "".join(f"@read{number}/{mate}\n{read}\n+\n{'I' * len(read)}\n" for number, read in enumerate(reads))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def pairs(folder: Path, suffix: str = "fastq.gz") -> tuple[Path, Path]:
    """Fragments of 400 bases, read 150 bases from both ends."""
    first = [SEQUENCE[place : place + 150] for place in PLACES]
    second = [SEQUENCE[place + 250 : place + 400].translate(COMPLEMENT)[::-1] for place in PLACES]
    return fastq(folder / f"1.{suffix}", first, 1), fastq(folder / f"2.{suffix}", second, 2)


def test_align_reads__pairs_come_back_to_their_places(reference: Path, tmp_path: Path) -> None:
    reads1, reads2 = pairs(tmp_path)
    assert align_reads(reads1, reads2, reference, "p1", tmp_path / "o.bam") == 120
    with pysam.AlignmentFile(str(tmp_path / "o.bam")) as alignments:
        assert alignments.header.to_dict()["RG"] == [{"ID": "p1", "SM": "p1", "PL": "ILLUMINA"}]
        reads = list(alignments)
    found = {(read.query_name, read.is_read2): read for read in reads}
    for number, place in enumerate(PLACES):
        assert found[f"read{number}", False].reference_start == place
        assert found[f"read{number}", True].reference_start == place + 250
        assert found[f"read{number}", True].is_proper_pair


def test_align_reads__single_reads_and_plain_files(reference: Path, tmp_path: Path) -> None:
    reads1, _ = pairs(tmp_path, "fq")
    assert align_reads(reads1, None, reference, "p1", tmp_path / "o.bam") == 60
    with pysam.AlignmentFile(str(tmp_path / "o.bam")) as alignments:
        assert not any(read.is_paired for read in alignments)


def test_align_reads__same_reads_same_bytes_wherever_they_lie(reference: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        align_reads(*pairs(tmp_path / name), reference, "p1", tmp_path / name / "o.bam")
    assert (tmp_path / "a" / "o.bam").read_bytes() == (tmp_path / "b" / "o.bam").read_bytes()


def test_align_reads__refuses_in_one_line_and_leaves_nothing(reference: Path, tmp_path: Path) -> None:
    reads1, reads2 = pairs(tmp_path)
    whole = reads2.read_bytes()
    short = fastq(tmp_path / "short.fq", [SEQUENCE[:100]] * 10, 2)
    other = fastq(tmp_path / "other.fq", [SEQUENCE[:100]] * 60, 2)
    other.write_text(other.read_text().replace("@read30/", "@stranger/"))
    cut = tmp_path / "cut.fastq.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    fasta = tmp_path / "reads.fa"
    fasta.write_text(">read0\nACGT\n")
    empty = tmp_path / "empty.fq"
    empty.write_text("")
    cases = {
        short: r"short\.fq: ends after 10 reads, before its mates",
        other: r"other\.fq: read 31 is 'stranger', but 'read30' in .*1\.fastq\.gz",
        cut: r"cut\.fastq\.gz: ",
        fasta: r"reads\.fa: read 1 \('read0'\) has no base qualities",
        empty: r"empty\.fq: ends after 0 reads",
        tmp_path / "missing.fq": r"missing\.fq: no such FASTQ file",
    }
    for mates, said in cases.items():
        with pytest.raises(FedcallError, match=said) as caught:
            align_reads(reads1, mates, reference, "p1", tmp_path / "out" / "o.bam")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
