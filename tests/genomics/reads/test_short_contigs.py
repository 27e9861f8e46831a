"""Genomes of many short contigs: CRAM, `.csi` and thinned reads come in few calls of samtools, and all come."""

import gzip
import random
from pathlib import Path

import numpy as np
import pysam
import pytest

from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads import alignment_records, short_contigs
from fedcall.genomics.reads.alignment_records import fetch_records
from tiny_alignments import write_reference

LENGTHS = {f"HLA-A*{k:02}:01:01:0{k % 10}N" if k % 3 else f"ctg{k},{{x}}": 200 + 17 * (k % 40) for k in range(150)}
LENGTHS = {"chr1": 120_000, **LENGTHS, "chrM": 16_569}
FORMATS = ["reads.bam", "csi.bam", "reads.cram"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("contigs")
    bases = {name: "".join(random.Random(name).choices("ACGT", k=size)) for name, size in LENGTHS.items()}
    reference = write_reference(folder, bases)
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": size} for name, size in LENGTHS.items()]}
    )
    generator = random.Random(1)
    with pysam.AlignmentFile(str(folder / "reads.bam"), "wb", header=header) as handle:
        for rank, (name, own) in enumerate(bases.items()):
            if rank % 5 == 2:
                continue  # as decoys have none
            changed = own[:100] + ("A" if own[100] != "A" else "C") + own[101:]
            for start in sorted(generator.choices(range(min(len(own) - 80, 2_000)), k=40)):
                line = (
                    f"{name[:3]}{rank}r{start}\t0\t{name}\t{start + 1}\t60\t80M\t*\t0\t0\t{changed[start : start + 80]}"
                )
                handle.write(pysam.AlignedSegment.fromstring(f"{line}\t{'I' * 80}", header))
    pysam.view(
        "-C", "-T", str(reference), "-o", str(folder / "reads.cram"), str(folder / "reads.bam"), catch_stdout=False
    )
    (folder / "csi.bam").write_bytes((folder / "reads.bam").read_bytes())
    pysam.index(str(folder / "reads.bam"))
    pysam.index("-c", str(folder / "csi.bam"))
    pysam.index(str(folder / "reads.cram"))
    return folder


@pytest.mark.parametrize("keep", [1.0, 0.5])
@pytest.mark.parametrize("name", FORMATS)
def test_fetch_records__every_read_of_every_contig(folder: Path, name: str, keep: float) -> None:
    reference = folder / "reference.fa"
    with pysam.AlignmentFile(str(folder / "reads.bam")) as handle:
        for rank, (contig, length) in enumerate(LENGTHS.items()):
            everything = [read.reference_start for read in handle.fetch(contig) if read.reference_end > 90]
            own = fetch_records(folder / name, reference, contig, rank, 90, length, keep).table[:, 0].tolist()
            assert len(own) == len(everything) if keep == 1 else not everything or 0 < len(own) < len(everything)


@pytest.mark.parametrize("name", FORMATS)
def test_extract_examples__many_contigs_take_few_calls(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    view = alignment_records._view
    monkeypatch.setattr(alignment_records, "_view", lambda *given: (called.append(given), view(*given))[1])
    found = extract_examples(folder / name, folder / "reference.fa")
    right = extract_examples(folder / "reads.bam", folder / "reference.fa")
    assert [found.contigs[rank] for rank in found.contig] == [right.contigs[rank] for rank in right.contig]
    np.testing.assert_array_equal(found.position, right.position)
    np.testing.assert_array_equal(found.log_likelihoods, right.log_likelihoods)
    assert len(right) > 100
    assert len(called) < 10


def test_batch_of__never_more_bases_at_once_than_memory_is_meant_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = list(LENGTHS.values())
    monkeypatch.setattr(short_contigs, "_TOGETHER", 5_000)
    found = [
        short_contigs.batch_of(folder / "reads.bam", folder / "reference.fa", rank, (5_000, 0))
        for rank in range(len(lengths))
    ]
    assert max(len(batch) for batch in found if batch) > 1
    assert max(sum(lengths[rank] for rank in batch) for batch in found if batch) <= 5_000


def test_batch_of__a_contig_with_many_reads_is_fetched_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chrm, places = len(LENGTHS) - 1, (folder / "reads.bam", folder / "reference.fa")
    assert chrm in (short_contigs.batch_of(*places, chrm, (1, 0)) or ())
    monkeypatch.setattr(short_contigs, "_DEEP", -1)  # the most that any contig has is too much
    assert short_contigs.batch_of(*places, chrm, (2, 0)) is None


@pytest.mark.parametrize("name", FORMATS)
def test_contigs_with_reads__no_contig_with_a_read_is_left_out(folder: Path, name: str) -> None:
    with pysam.AlignmentFile(str(folder / "reads.bam")) as handle:
        right = {rank for rank, contig in enumerate(LENGTHS) if any(True for _ in handle.fetch(contig))}
    assert short_contigs.contigs_with_reads(folder / name) == right
    assert len(right) < len(LENGTHS)


def test_contigs_with_reads__nobody_knows_where_slices_hide_their_contigs(folder: Path, tmp_path: Path) -> None:
    cram = tmp_path / "reads.cram"
    cram.write_bytes((folder / "reads.cram").read_bytes())
    lines = gzip.decompress((folder / "reads.cram.crai").read_bytes()).decode().splitlines()
    hidden = ["\t".join(["-2", *lines[0].split("\t")[1:]]), *lines[1:]]
    Path(f"{cram}.crai").write_bytes(gzip.compress("\n".join(hidden).encode() + b"\n"))
    assert short_contigs.contigs_with_reads(cram) is None
