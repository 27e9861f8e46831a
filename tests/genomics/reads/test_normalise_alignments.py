"""Normalised alignments: same bytes from any form of the same reads, duplicates marked, unneeded reads left out."""

from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from fedcall.genomics.reads.opening import check_alignments


@pytest.fixture(scope="module")
def alignments(simulated_cohort: Path) -> Path:
    return simulated_cohort / "north-001.bam"


@pytest.fixture(scope="module")
def reference(simulated_cohort: Path) -> Path:
    return simulated_cohort / "reference.fa"


def records(path: Path) -> list[str]:
    with pysam.AlignmentFile(str(path)) as reads:
        return [read.to_string() for read in reads]


def test_normalise_alignments__marks_copies_and_changes_no_read(
    alignments: Path, reference: Path, tmp_path: Path
) -> None:
    summary = normalise_alignments(alignments, reference, tmp_path / "out.bam")
    check_alignments(tmp_path / "out.bam", reference)
    with pysam.AlignmentFile(str(alignments)) as before, pysam.AlignmentFile(str(tmp_path / "out.bam")) as after:
        originals = {(read.query_name, read.is_read1): read for read in before}
        normalised = list(after)
        assert after.header.to_dict()["HD"]["SO"] == "coordinate"
        assert after.header.to_dict()["RG"] == before.header.to_dict()["RG"]
        assert "PG" not in after.header.to_dict()
    assert len(normalised) == len(originals) == summary.reads
    for read in normalised:
        original = originals[read.query_name, read.is_read1]
        assert (read.query_sequence, read.cigarstring, read.pos, read.mapq, read.get_tag("RG")) == (
            original.query_sequence,
            original.cigarstring,
            original.pos,
            original.mapq,
            original.get_tag("RG"),
        )
    marked = sum(read.is_duplicate for read in normalised)
    assert marked == summary.duplicates
    assert 0.03 * len(normalised) < marked < 0.12 * len(normalised)
    # A group of copies keeps one: no two unmarked pairs have the same ends (5' ends, clipped bases counted).
    kept = [read for read in normalised if read.template_length > 0 and not read.is_duplicate]
    ends = [(read.pos, read.template_length, read.is_read1) for read in kept]
    assert len(ends) - len(set(ends)) <= 0.005 * len(ends)


def test_normalise_alignments__unsorted_and_cram_give_the_same_reads(
    alignments: Path, reference: Path, tmp_path: Path
) -> None:
    pysam.sort("-n", "--no-PG", "-o", str(tmp_path / "byname.bam"), str(alignments), catch_stdout=False)
    pysam.view("-C", "-T", str(reference), "-o", str(tmp_path / "p.cram"), str(alignments), catch_stdout=False)
    pysam.index(str(tmp_path / "p.cram"))
    assert normalise_alignments(tmp_path / "byname.bam", reference, tmp_path / "1.bam").sorted_here
    assert not normalise_alignments(tmp_path / "p.cram", reference, tmp_path / "2.bam").sorted_here
    normalise_alignments(alignments, reference, tmp_path / "3.bam")
    # Reads that start at the same place may come in another order; which copy is marked depends on quality only.
    assert sorted(records(tmp_path / "1.bam")) == sorted(records(tmp_path / "3.bam"))
    assert records(tmp_path / "2.bam") == records(tmp_path / "3.bam")


def test_normalise_alignments__bytes_depend_on_the_reads_only(
    alignments: Path, reference: Path, tmp_path: Path
) -> None:
    normalise_alignments(alignments, reference, tmp_path / "a" / "1.bam")
    normalise_alignments(alignments, reference, tmp_path / "b" / "2.bam", threads=2)
    assert (tmp_path / "a" / "1.bam").read_bytes() == (tmp_path / "b" / "2.bam").read_bytes()
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == ["1.bam", "1.bam.bai"]


def test_normalise_alignments__is_idempotent(alignments: Path, reference: Path, tmp_path: Path) -> None:
    normalise_alignments(alignments, reference, tmp_path / "1.bam")
    normalise_alignments(tmp_path / "1.bam", reference, tmp_path / "2.bam")
    assert records(tmp_path / "1.bam") == records(tmp_path / "2.bam")


def test_normalise_alignments__keeps_marks_of_others(alignments: Path, reference: Path, tmp_path: Path) -> None:
    with pysam.AlignmentFile(str(alignments)) as reads:
        header = reads.header.to_dict()
        header["PG"] = [{"ID": "MarkDuplicates", "PN": "MarkDuplicates"}]
        with pysam.AlignmentFile(str(tmp_path / "in.bam"), "wb", header=header) as target:
            for number, read in enumerate(reads):
                read.is_duplicate = number == 5
                target.write(read)
    pysam.index(str(tmp_path / "in.bam"))
    summary = normalise_alignments(tmp_path / "in.bam", reference, tmp_path / "out.bam")
    assert (summary.duplicates, summary.duplicates_marked_here) == (1, False)


def test_normalise_alignments__regions_keep_every_read_over_them(
    alignments: Path, reference: Path, tmp_path: Path
) -> None:
    bed = tmp_path / "r.bed"
    bed.write_text("sim1\t3000\t3500\nsim1\t9000\t9100\n")
    normalise_alignments(alignments, reference, tmp_path / "all.bam")
    summary = normalise_alignments(alignments, reference, tmp_path / "some.bam", regions=bed)
    with pysam.AlignmentFile(str(tmp_path / "all.bam")) as all_reads:
        with pysam.AlignmentFile(str(tmp_path / "some.bam")) as some_reads:
            for start, end in ((3000, 3500), (9000, 9100)):
                wanted = [read.to_string() for read in all_reads.fetch("sim1", start, end)]
                assert [read.to_string() for read in some_reads.fetch("sim1", start, end)] == wanted
                assert wanted
        assert summary.reads < all_reads.mapped


def test_normalise_alignments__single_end_reads_and_empty_files(reference: Path, tmp_path: Path) -> None:
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": "sim1", "LN": 12_000}]}
    for name, copies in (("single", 3), ("empty", 0)):
        with pysam.AlignmentFile(str(tmp_path / f"{name}.bam"), "wb", header=header) as target:
            for number in range(copies):
                read = pysam.AlignedSegment(target.header)
                read.query_name, read.flag, read.reference_id, read.pos = f"r{number}", 0, 0, 1_000
                read.cigarstring, read.mapping_quality = "10M", 60
                read.query_sequence, read.query_qualities_str = "ACGTACGTAC", "IIIIIIIII" + "5?I"[number]
                target.write(read)
        pysam.index(str(tmp_path / f"{name}.bam"))
    single = normalise_alignments(tmp_path / "single.bam", reference, tmp_path / "1.bam")
    assert (single.reads, single.duplicates) == (3, 2)
    empty = normalise_alignments(tmp_path / "empty.bam", reference, tmp_path / "2.bam")
    assert (empty.reads, empty.duplicates) == (0, 0)
    check_alignments(tmp_path / "2.bam", reference)


def test_normalise_alignments__refuses_to_overwrite_its_input(alignments: Path, reference: Path) -> None:
    with pytest.raises(FedcallError, match="is the input itself"):
        normalise_alignments(alignments, reference, alignments)


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "name"), [("ceu_1000g", "NA06984"), ("na12878", "NA12878")])
def test_normalise_alignments__reads_real_files(shared_data: Path, tmp_path: Path, folder: str, name: str) -> None:
    source = shared_data / folder
    summary = normalise_alignments(
        source / f"{name}.bam", source / "reference.fa.gz", tmp_path / "out.bam", regions=source / "regions.bed"
    )
    check_alignments(tmp_path / "out.bam", source / "reference.fa.gz")
    assert summary.reads > 10_000
    assert summary.duplicates > 20
