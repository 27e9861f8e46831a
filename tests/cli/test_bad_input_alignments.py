"""Bad sequencing data through the real command line: exit code 2, one line that names the file, nothing written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from forked import run_forked

FEDCALL = Path(sys.executable).with_name("fedcall")


@pytest.fixture
def case(simulated_cohort: Path, tmp_path: Path) -> Path:
    """Return a folder with one good patient, to be broken by the test."""
    for name in ("reference.fa", "reference.fa.fai", "regions.bed"):
        shutil.copy(simulated_cohort / name, tmp_path / name)
    for suffix in (".bam", ".bam.bai", ".truth.vcf.gz", ".truth.vcf.gz.tbi"):
        shutil.copy(simulated_cohort / f"north-001{suffix}", tmp_path / f"p{suffix}")
    (tmp_path / "out").mkdir()
    return tmp_path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments)


def normalise_alignments(case: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    files = ("--alignments", case / "p.bam", "--reference", case / "reference.fa", "--regions", case / "regions.bed")
    return run("normalise-alignments", *files, "--output", case / "out" / "p.bam", *more)


def normalise_labels(case: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    files = ("--truth", case / "p.truth.vcf.gz", "--reference", case / "reference.fa")
    return run("normalise-labels", *files, "--output", case / "out" / "p.vcf.gz", *more)


def refused(case: Path, done: subprocess.CompletedProcess[str], *said: str) -> None:
    """Assert that the command refused in one line that says these words, and that it left nothing behind."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("fedcall: ")
    for word in said:
        assert word in done.stderr
    assert list((case / "out").iterdir()) == []


def rename_contig(case: Path, name: str, length: int | None = None) -> None:
    """Rewrite the BAM with another contig name, or another length."""
    with pysam.AlignmentFile(str(case / "p.bam")) as reads:
        header = reads.header.to_dict()
        header["SQ"] = [{"SN": name, "LN": length or header["SQ"][0]["LN"]}]
        with pysam.AlignmentFile(str(case / "new.bam"), "wb", header=header) as target:
            for read in reads:
                target.write(read)
    (case / "new.bam").rename(case / "p.bam")
    pysam.index(str(case / "p.bam"))


def write_truth(case: Path, contig: str, length: int, rows: str = "") -> None:
    for path in case.glob("p.truth*"):
        path.unlink()
    plain = case / "p.truth.vcf"
    plain.write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID={contig},length={length}>\n"
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp\n{rows}"
    )
    pysam.tabix_index(str(plain), preset="vcf")


def test_normalise__good_input_passes(case: Path) -> None:
    done = normalise_alignments(case)
    assert (done.returncode, done.stderr) == (0, "")
    done = normalise_labels(case, "--regions", case / "regions.bed")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (case / "out").iterdir()} == {"p.bam", "p.bam.bai", "p.vcf.gz", "p.vcf.gz.tbi"}


@pytest.mark.parametrize("index", [None, b"not an index"], ids=["missing", "broken"])
def test_normalise_alignments__an_index_is_not_needed(case: Path, index: bytes | None) -> None:
    """Whatever has no index that can be read is sorted, and gives the same alignments as with it."""
    results = []
    for remove in (False, True):
        if remove:
            (case / "p.bam.bai").unlink()
        if remove and index is not None:
            (case / "p.bam.bai").write_bytes(index)
        done = normalise_alignments(case)
        assert done.returncode == 0, done.stderr
        with pysam.AlignmentFile(str(case / "out/p.bam")) as reads:
            results.append([read.to_string() for read in reads])
    assert results[0] == results[1] != []


def test_normalise_alignments__truncated_file(case: Path) -> None:
    content = (case / "p.bam").read_bytes()
    (case / "p.bam").write_bytes(content[: len(content) // 2])
    refused(case, normalise_alignments(case), "p.bam: truncated")


def test_normalise_alignments__damaged_in_the_middle(case: Path) -> None:
    content = bytearray((case / "p.bam").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(2_000)
    (case / "p.bam").write_bytes(content)
    refused(case, normalise_alignments(case), "p.bam: cannot be processed")


def test_normalise_alignments__not_alignments_at_all(case: Path) -> None:
    shutil.copy(case / "reference.fa", case / "p.bam")
    refused(case, normalise_alignments(case), "p.bam: not a readable BAM or CRAM file")


def test_normalise_alignments__missing_file(case: Path) -> None:
    (case / "p.bam").unlink()
    refused(case, normalise_alignments(case), "p.bam: no such alignment file")


def test_normalise_alignments__contig_of_another_name(case: Path) -> None:
    rename_contig(case, "chr1")
    refused(case, normalise_alignments(case), "p.bam: no contig 'sim1' (found chr1)")


def test_normalise_alignments__contig_of_another_length(case: Path) -> None:
    rename_contig(case, "sim1", 13_000)
    refused(case, normalise_alignments(case), "p.bam: contig 'sim1' has 13000 bases, but 12000 in", "reference.fa")


def test_normalise_alignments__regions_of_another_contig(case: Path) -> None:
    (case / "regions.bed").write_text("chr1\t0\t100\n")
    refused(case, normalise_alignments(case), "regions.bed:1: contig 'chr1' is not in", "reference.fa")


def test_normalise_alignments__reference_without_index(case: Path) -> None:
    (case / "reference.fa.fai").unlink()
    refused(case, normalise_alignments(case), "reference.fa: index reference.fa.fai is missing", "samtools faidx")


def test_normalise_alignments__cram_of_another_reference(case: Path) -> None:
    pysam.view(
        "-C", "-T", str(case / "reference.fa"), "-o", str(case / "p.cram"), str(case / "p.bam"), catch_stdout=False
    )
    pysam.index(str(case / "p.cram"))
    text = (case / "reference.fa").read_text()
    header, bases = text.split("\n", 1)
    (case / "reference.fa").write_text(header + "\n" + bases.translate(str.maketrans("ACGT", "CATG")))
    done = normalise_alignments(case, "--alignments", case / "p.cram")
    refused(case, done, "p.cram: packed against another reference: 'sim1' has other bases in")


def test_normalise_labels__ref_differs_from_the_reference(case: Path) -> None:
    base = pysam.FastaFile(str(case / "reference.fa")).fetch("sim1", 999, 1_000)
    other = "A" if base != "A" else "C"
    write_truth(case, "sim1", 12_000, f"sim1\t1000\t.\t{other}\t{base}\t.\tPASS\t.\tGT\t0/1\n")
    refused(
        case,
        normalise_labels(case),
        f"p.truth.vcf.gz: sim1:1000: REF is {other}, but",
        f"reference.fa has {base} there",
    )


def test_normalise_labels__contig_of_another_name(case: Path) -> None:
    write_truth(case, "chr1", 12_000, "chr1\t1000\t.\tA\tC\t.\tPASS\t.\tGT\t0/1\n")
    refused(case, normalise_labels(case), "p.truth.vcf.gz: no contig in common with", "found chr1; reference has sim1")


def test_normalise_labels__contig_of_another_length(case: Path) -> None:
    write_truth(case, "sim1", 13_000)
    refused(case, normalise_labels(case), "p.truth.vcf.gz: contig 'sim1' has 13000 bases, but 12000")


def test_normalise_labels__truncated_file(case: Path) -> None:
    content = (case / "p.truth.vcf.gz").read_bytes()
    (case / "p.truth.vcf.gz").write_bytes(content[: len(content) // 2])
    refused(case, normalise_labels(case), "p.truth.vcf.gz: ")


def test_normalise_labels__unknown_sample(case: Path) -> None:
    refused(case, normalise_labels(case, "--sample", "NA1"), "p.truth.vcf.gz: no sample 'NA1' (found north-001)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--site", "north"], "--site: found 'north'; needed: NAME=PATIENTS"),
        (["--site", "north=2", "--site", "north=3"], "--site: 'north' is given twice"),
        (["--site", "public=2"], "--site: 'public' is the name of the public rows"),
        (["--site", "no rth=2"], "no rth"),
        (["--site", "north=0"], "0"),
        (["--site", "north=2", "--region-length", "10"], "region_length"),
        (["--site", "north=2", "--depth", "-1"], "depth"),
    ],
)
def test_simulate__names_the_option(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "out").mkdir()
    refused(tmp_path, run("simulate", *options, "--output", tmp_path / "out"), said)
