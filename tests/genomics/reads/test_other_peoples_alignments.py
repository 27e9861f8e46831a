"""Alignments as other people have them: SAM, wrong order, reads of one name, several people, amplicons, empty reads."""

import random
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads.align import align_reads
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from fedcall.genomics.reads.opening import check_alignments
from tiny_alignments import write_reference

SEQUENCE = "".join(random.Random(7).choices("ACGT", k=3_000))
Line = tuple[str, int, int, str]
"""Name, flag, position from 0, read group."""


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path, {"c": SEQUENCE})


def write_sam(path: Path, reads: list[Line], samples: tuple[str, ...] = ("s",), order: str = "coordinate") -> Path:
    lines = [f"@HD\tVN:1.6\tSO:{order}", f"@SQ\tSN:c\tLN:{len(SEQUENCE)}"]
    lines += [f"@RG\tID:{sample}\tSM:{sample}" for sample in samples]
    for name, flag, start, group in reads:
        bases = SEQUENCE[start : start + 100]
        lines.append(f"{name}\t{flag}\tc\t{start + 1}\t60\t100M\t*\t0\t0\t{bases}\t{'I' * 100}\tRG:Z:{group}")
    path.write_text("\n".join(lines) + "\n")
    return path


def to_bam(sam: Path) -> Path:
    bam = sam.with_suffix(".bam")
    pysam.view("-b", "-o", str(bam), str(sam), catch_stdout=False)
    pysam.index(str(bam))
    return bam


def records(path: Path) -> list[tuple[str, int, int]]:
    with pysam.AlignmentFile(str(path)) as handle:
        return sorted((str(read.query_name), read.flag & ~0x400, read.reference_start) for read in handle)


@pytest.mark.parametrize("name", ["read", "*"])
def test_normalise_alignments__single_reads_of_one_name_stay_single(reference: Path, tmp_path: Path, name: str) -> None:
    reads = [(name if name == "*" else f"{name}{k // 2}", 16 * (k % 2), 1_400 + 2 * k, "s") for k in range(40)]
    source = to_bam(write_sam(tmp_path / "in.sam", reads))
    normalise_alignments(source, reference, tmp_path / "out.bam")
    assert records(tmp_path / "out.bam") == records(source)


def test_normalise_alignments__pairs_beside_single_reads(reference: Path, tmp_path: Path) -> None:
    reads = [(f"r{k}", flag, 1_400 + k, "s") for k in range(20) for flag in ((0, 0) if k % 2 else (0x41, 0x91))]
    source = to_bam(write_sam(tmp_path / "in.sam", reads))
    normalise_alignments(source, reference, tmp_path / "out.bam")
    with pysam.AlignmentFile(str(tmp_path / "out.bam")) as handle:
        found = list(handle)
    assert len(found) == 40
    assert all(read.is_paired == (int(str(read.query_name)[1:]) % 2 == 0) for read in found)
    assert all(read.next_reference_id == (0 if read.is_paired else -1) for read in found)


@pytest.mark.parametrize("order", ["coordinate", "unsorted"])
def test_normalise_alignments__takes_sam_in_any_order(reference: Path, tmp_path: Path, order: str) -> None:
    """Whatever the header says: the remedy that other commands name must work."""
    reads = [(f"r{k}", 0, 1_500 - 10 * k, "s") for k in range(30)]
    sam = write_sam(tmp_path / "in.sam", reads, order=order)
    bam = tmp_path / "in.bam"
    pysam.view("-b", "-o", str(bam), str(sam), catch_stdout=False)
    for source in (sam, bam):
        with pytest.raises(FedcallError, match=r"normalise-alignments|index"):
            check_alignments(source, reference)
        assert normalise_alignments(source, reference, tmp_path / "out.bam").sorted_here
        check_alignments(tmp_path / "out.bam", reference)
        assert records(tmp_path / "out.bam") == records(source)


def test_open_alignments__two_people_in_one_file(reference: Path, tmp_path: Path) -> None:
    reads = [(f"r{k}", 0, 1_400 + 2 * k, "ab"[k % 2]) for k in range(40)]
    source = to_bam(write_sam(tmp_path / "in.sam", reads, ("a", "b")))
    for work in (
        lambda: check_alignments(source, reference),
        lambda: normalise_alignments(source, reference, tmp_path / "out.bam"),
        lambda: extract_examples(source, reference),
    ):
        with pytest.raises(FedcallError, match=r"reads of several samples \(a, b\)"):
            work()
    assert not (tmp_path / "out.bam").exists()


def test_normalise_alignments__amplicons_keep_their_reads(reference: Path, tmp_path: Path) -> None:
    source = to_bam(write_sam(tmp_path / "in.sam", [(f"r{k}", 0, 1_450, "s") for k in range(200)]))
    marked = normalise_alignments(source, reference, tmp_path / "marked.bam")
    assert marked.duplicates == 199
    assert "199 of 200 reads are marked as duplicates" in (marked.warning() or "")
    kept = normalise_alignments(source, reference, tmp_path / "kept.bam", duplicates="keep")
    assert kept.duplicates == 0
    assert kept.warning() is None


def test_align_reads__a_read_of_no_bases_is_unmapped(reference: Path, tmp_path: Path) -> None:
    fastq = tmp_path / "1.fq"
    reads = [(f"r{k}", SEQUENCE[1_000 + k : 1_100 + k]) for k in range(20)]
    reads.insert(7, ("trimmed", ""))
    fastq.write_text("".join(f"@{name}\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in reads))
    assert align_reads(fastq, None, reference, "s", tmp_path / "out.bam") == 21
    with pysam.AlignmentFile(str(tmp_path / "out.bam")) as handle:
        assert [str(read.query_name) for read in handle if read.is_unmapped] == ["trimmed"]


@pytest.mark.parametrize("lanes", [2, 3])
@pytest.mark.parametrize("groups", [("s",), ("s", "s2")])
def test_normalise_alignments__pairs_of_lanes_that_number_alike(
    reference: Path, tmp_path: Path, lanes: int, groups: tuple[str, ...]
) -> None:
    """Two pairs of one name are two pairs: nobody is mated with a read of another fragment, and none is a duplicate."""
    lines = [f"@SQ\tSN:c\tLN:{len(SEQUENCE)}", *(f"@RG\tID:{group}\tSM:p" for group in groups)]
    for lane in range(lanes):
        for k in range(30):
            start = 400 + 41 * k + 13 * lane
            for flag, own, mate in ((99, start, start + 40), (147, start + 40, start)):
                bases, group = SEQUENCE[own : own + 100], groups[lane % len(groups)]
                place = f"c\t{own + 1}\t60\t100M\t=\t{mate + 1}\t{140 if flag == 99 else -140}"
                lines.append(f"r{k}\t{flag}\t{place}\t{bases}\t{'I' * 100}\tRG:Z:{group}")
        # A supplementary alignment of the first read, elsewhere.
        lines.append(f"r0\t2145\tc\t2001\t60\t50H50M\t=\t{441 + 13 * lane}\t0\t{SEQUENCE[2_000:2_050]}\t{'I' * 50}")
    (tmp_path / "in.sam").write_text("\n".join(lines) + "\n")
    summary = normalise_alignments(tmp_path / "in.sam", reference, tmp_path / "out.bam")
    assert (summary.reads, summary.duplicates) == (61 * lanes, 0)

    def rows(path: Path) -> list[tuple[object, ...]]:
        with pysam.AlignmentFile(str(path)) as handle:
            return sorted(
                (str(read.query_name), read.flag, read.reference_start, read.next_reference_start)
                for read in handle
                if not read.is_supplementary
            )

    assert rows(tmp_path / "out.bam") == rows(tmp_path / "in.sam")


def test_normalise_alignments__copies_among_lanes_that_number_alike_are_duplicates(
    reference: Path, tmp_path: Path
) -> None:
    lines = [f"@SQ\tSN:c\tLN:{len(SEQUENCE)}"]
    for copy in range(2):
        for name, start in (("r1", 500 + 200 * copy), ("r2", 500)):
            for flag, own, mate in ((99, start, start + 40), (147, start + 40, start)):
                bases = SEQUENCE[own : own + 100]
                lines.append(f"{name}\t{flag}\tc\t{own + 1}\t60\t100M\t=\t{mate + 1}\t0\t{bases}\t{'I' * 100}")
    (tmp_path / "in.sam").write_text("\n".join(lines) + "\n")
    # Three pairs begin and end at 500: two of them are copies.
    assert normalise_alignments(tmp_path / "in.sam", reference, tmp_path / "out.bam").duplicates == 4


def test_extract_examples__reads_at_no_position_are_read_past(reference: Path, tmp_path: Path) -> None:
    reads = [(f"r{k}", 0, 1_400 + k, "s") for k in range(20)]
    path = to_bam(write_sam(tmp_path / "in.sam", reads))
    with pysam.AlignmentFile(str(path)) as source:
        kept = list(source)
        lost = pysam.AlignedSegment.from_dict(kept[0].to_dict() | {"name": "lost"}, source.header)
        lost.reference_start = -1
        with pysam.AlignmentFile(str(tmp_path / "lost.bam"), "wb", header=source.header) as handle:
            for read in (lost, *kept):
                handle.write(read)
    pysam.index(str(tmp_path / "lost.bam"))
    without, beside = (extract_examples(file, reference) for file in (path, tmp_path / "lost.bam"))
    assert (beside.counts == without.counts).all()
    assert len(beside) == len(without)
