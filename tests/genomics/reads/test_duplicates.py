"""Who marked duplicates, and UMIs: words count where a program names itself, and nowhere else."""

import random
from pathlib import Path

import pysam
import pytest

from fedcall.genomics.reads.duplicates import duplicates_are_marked, umi_tag
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from tiny_alignments import write_reference

SEQUENCE = "".join(random.Random(9).choices("ACGT", k=2_000))


def header(*programs: dict[str, str], **further: object) -> pysam.AlignmentHeader:
    return pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6"}, "SQ": [{"SN": "markdup", "LN": 2_000}], "PG": list(programs), **further}
    )


@pytest.mark.parametrize(
    "program",
    [
        {"ID": "MarkDuplicates", "PN": "MarkDuplicates"},
        {"ID": "MarkDuplicates.1", "PN": "MarkDuplicates", "CL": "MarkDuplicates --INPUT a.bam"},
        {"ID": "samtools.3", "PN": "samtools", "CL": "samtools markdup -T x in.bam out.bam"},
        {"ID": "samtools", "PN": "samtools", "CL": "/opt/bin/samtools markdup - -"},
        {"ID": "sambamba", "CL": "markdup in.bam out.bam", "VN": "0.8.2"},
        {"ID": "SAMBLASTER", "CL": "samblaster -i stdin -o stdout", "VN": "0.1.26"},
        {"ID": "bamsormadup", "PN": "bamsormadup"},
        {"ID": "p", "CL": "java -Xmx4g -jar /opt/picard.jar MarkDuplicates I=a.bam"},
        {"ID": "g", "CL": "gatk --java-options -Xmx4g MarkDuplicatesSpark -I a.bam"}
        | {"PN": "GATK MarkDuplicatesSpark"},
    ],
)
def test_duplicates_are_marked__by_a_program_that_does(program: dict[str, str]) -> None:
    assert duplicates_are_marked(header({"ID": "bwa", "PN": "bwa"}, program))


@pytest.mark.parametrize(
    "program",
    [
        {"ID": "bwa", "PN": "bwa", "CL": "/tools/markdup/bwa mem MarkDuplicates.fa markdup.fq"},
        {"ID": "samtools", "PN": "samtools", "CL": "samtools sort -T markdup -o markdup.bam in.bam"},
        {"ID": "samtools", "PN": "samtools", "CL": "/opt/samblaster/samtools view no_markdup.bam"},
        {"ID": "bwa", "DS": "before markdup"},
        {"ID": "view", "PN": "samtools", "CL": "samtools view --remove-flags 0x400 x.MarkDuplicates.bam"},
    ],
)
def test_duplicates_are_marked__words_elsewhere_say_nothing(program: dict[str, str]) -> None:
    assert not duplicates_are_marked(header(program, CO=["MarkDuplicates samblaster markdup"]))


def write(folder: Path, umis: list[str | None], tag: str = "RX", duplicates: int = 0) -> Path:
    """Reads that begin and end alike, each with a UMI or without; the first so many marked as duplicates."""
    path = folder / "in.bam"
    with pysam.AlignmentFile(str(path), "wb", header=header()) as handle:
        for number, umi in enumerate(umis):
            read = pysam.AlignedSegment(handle.header)
            read.query_name, read.flag, read.reference_id = f"r{number}", 0x400 * (number < duplicates), 0
            read.reference_start, read.mapping_quality, read.cigarstring = 500, 60, "100M"
            read.query_sequence, read.query_qualities = SEQUENCE[500:600], [35] * 100
            if umi is not None:
                read.set_tag(tag, umi)
            handle.write(read)
    pysam.index(str(path))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path, {"markdup": SEQUENCE})


@pytest.mark.parametrize("tag", ["RX", "MI"])
def test_normalise_alignments__reads_of_other_umis_are_no_copies(reference: Path, tmp_path: Path, tag: str) -> None:
    source = write(tmp_path, ["ACGT", "ACGT", "TTTT", "GGGG"], tag)
    summary = normalise_alignments(source, reference, tmp_path / "out.bam")
    assert (summary.duplicates, summary.umis) == (1, tag)
    assert f"UMIs in {tag}" in summary.sentence()


def test_umi_tag__all_reads_must_have_it(reference: Path, tmp_path: Path) -> None:
    assert umi_tag(write(tmp_path, ["ACGT", None, "TTTT"]), reference) is None
    assert normalise_alignments(tmp_path / "in.bam", reference, tmp_path / "out.bam").duplicates == 2


def test_normalise_alignments__takes_away_marks_that_the_file_brings(reference: Path, tmp_path: Path) -> None:
    source = write(tmp_path, [None] * 10, duplicates=9)
    kept = normalise_alignments(source, reference, tmp_path / "kept.bam", duplicates="keep")
    assert kept.duplicates == 9
    assert "--clear-duplicate-marks" in (kept.warning() or "")
    assert normalise_alignments(source, reference, tmp_path / "clear.bam", duplicates="clear").duplicates == 0
