"""Long reads are refused in one line before any work, and no short ones are."""

import gzip
import random
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads.align import align_reads
from fedcall.genomics.reads.long_reads import refuse_long_fastq, refuse_long_reads
from tiny_alignments import Read, write_alignments, write_reference

SEQUENCE = "".join(random.Random(8).choices("ACGT", k=30_000))
ONT = Path("../shared/data/hg002_ont")
SHORT = [Path("../shared/data/na12878/NA12878.bam"), *sorted(Path("../shared/data/ceu_1000g").glob("*.bam"))]


def reads_of(*lengths: int) -> list[Read]:
    places = random.Random(3)
    starts = (places.randrange(len(SEQUENCE) - length) for length in lengths)
    return [Read(at, f"{length}M", SEQUENCE[at : at + length]) for at, length in zip(starts, lengths, strict=True)]


def made(folder: Path, *lengths: int) -> tuple[Path, Path]:
    return write_alignments(folder, {"c": len(SEQUENCE)}, reads_of(*lengths)), write_reference(folder, {"c": SEQUENCE})


def with_platform(alignments: Path, platform: str) -> Path:
    changed = alignments.with_name(f"{platform}.bam")
    pysam.addreplacerg("-r", f"ID:a\tSM:p\tPL:{platform}", "-o", str(changed), str(alignments), catch_stdout=False)
    pysam.index(str(changed))
    return changed


@pytest.mark.parametrize("lengths", [(9_000,) * 20, (400,) * 20 + (15_000, 2_000), (250,) * 50 + (1_001, 1_500)])
def test_refuse_long_reads__by_their_length(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    with pytest.raises(FedcallError, match=r"reads.bam: long reads \(.* of the first .*\); .*leave this patient out"):
        refuse_long_reads(*made(tmp_path, *lengths))


@pytest.mark.parametrize("platform", ["ONT", "PACBIO", "PacBio"])
def test_refuse_long_reads__by_their_read_group(tmp_path: Path, platform: str) -> None:
    alignments, reference = made(tmp_path, *(400,) * 20)  # amplicons sequenced by Nanopore are as short
    with pytest.raises(FedcallError, match=f"PL:{platform}"):
        refuse_long_reads(with_platform(alignments, platform), reference)


@pytest.mark.parametrize("lengths", [(300,) * 40, (600,) * 40, (1_000,) * 20, (150,) * 400 + (5_000,), ()])
def test_refuse_long_reads__never_short_ones(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    alignments, reference = made(tmp_path, *lengths)
    refuse_long_reads(alignments, reference)
    refuse_long_reads(with_platform(alignments, "ILLUMINA"), reference)


def test_refuse_long_reads__cram(tmp_path: Path) -> None:
    for folder, length, refused in (("short", 300, False), ("long", 3_000, True)):
        (tmp_path / folder).mkdir()
        alignments, reference = made(tmp_path / folder, *(length,) * 20)
        cram = alignments.with_suffix(".cram")
        pysam.view("-C", "-T", str(reference), "-o", str(cram), str(alignments), catch_stdout=False)
        pysam.index(str(cram))
        if refused:
            with pytest.raises(FedcallError, match="long reads"):
                refuse_long_reads(cram, reference)
        else:
            refuse_long_reads(cram, reference)


def test_refuse_long_reads__real_ones(tmp_path: Path) -> None:
    if not ONT.is_dir():
        pytest.skip("no ../shared/data")
    with pytest.raises(FedcallError, match="long reads"):
        extract_examples(ONT / "HG002.bam", ONT / "reference.fa.gz", ONT / "regions.bed")
    for alignments in SHORT:
        refuse_long_reads(alignments, alignments.parent / "reference.fa.gz")


def test_refuse_long_fastq__before_they_are_aligned(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    for name, length in (("short", 600), ("long", 6_000)):
        with gzip.open(tmp_path / f"{name}.fq.gz", "wt") as handle:
            handle.writelines(f"@r{k}\n{SEQUENCE[k : k + length]}\n+\n{'I' * length}\n" for k in range(10))
    refuse_long_fastq(tmp_path / "short.fq.gz")
    with pytest.raises(FedcallError, match=r"long.fq.gz: long reads \(10 of the first 10"):
        align_reads(tmp_path / "long.fq.gz", None, reference, "p", tmp_path / "out.bam")
    assert not (tmp_path / "out.bam").exists()


def test_refuse_long_reads__damaged_ones_are_left_to_who_reads_all(tmp_path: Path) -> None:
    alignments, reference = made(tmp_path, *(300,) * 4_000)
    content = bytearray(alignments.read_bytes())
    content[len(content) // 8] ^= 0xFF
    alignments.write_bytes(content)
    refuse_long_reads(alignments, reference)


def test_refuse_long_fastq__what_is_no_file_is_left_to_others(tmp_path: Path) -> None:
    refuse_long_fastq(tmp_path)
    refuse_long_fastq(tmp_path / "missing")
