"""The benchmark of one genome measures the reads it says, and extrapolates as it says."""

from pathlib import Path

import pysam
import pytest

from fedcall.benchmarks.genome import GENOME_MB, as_text, benchmark_genome, tile
from fedcall.errors import FedcallError


def test_tile__copies_the_reads_of_one_stretch(simulated_cohort: Path, tmp_path: Path) -> None:
    alignments, reference = simulated_cohort / "north-001.bam", simulated_cohort / "reference.fa"
    bed = tmp_path / "part.bed"
    with pysam.FastaFile(str(reference)) as fasta:
        contig = fasta.references[0]
        sequence = fasta.fetch(contig, 1000, 5000)
    bed.write_text(f"{contig}\t1000\t5000\n{contig}\t6000\t7000\n")
    piece = tile(alignments, reference, bed, 0.011, tmp_path)
    assert (piece.copies, piece.bases) == (3, 12_000)
    assert 15 < piece.depth < 25  # the cohort's 20x, less what reaches out
    with pysam.FastaFile(str(piece.reference)) as made:
        assert made.fetch("piece") == sequence * 3
    with pysam.AlignmentFile(str(piece.alignments)) as reads:
        places = [
            [read.reference_start % 4000 for read in reads.fetch("piece", 4000 * copy, 4000 * copy + 4000)]
            for copy in range(3)
        ]
        assert places[0] == places[1] == places[2]
        assert reads.has_index()


@pytest.mark.slow
def test_benchmark_genome__extrapolates_what_it_measured(simulated_cohort: Path) -> None:
    alignments, reference = simulated_cohort / "north-001.bam", simulated_cohort / "reference.fa"
    result = benchmark_genome(alignments, reference, None, 0.05, 1)
    assert result.reads == "real"  # of somebody, as far as it can know
    programs = {one.program: one for one in result.contenders}
    assert {"fedcall call", "fedcall call, no head", "fedcall pileup", "bcftools mpileup, call"} <= set(programs)
    workers = result.workers
    assert workers.times_one is None or workers.times_one == workers.one_seconds / workers.two_seconds
    assert ("freebayes" in programs) is not ("freebayes" in result.missing)
    for one in programs.values():
        minutes = (one.start_seconds + one.seconds_per_mb * GENOME_MB * 30 / result.depth) / 60
        assert one.core_minutes == pytest.approx(minutes)
    assert programs["fedcall call"].ratio == 1
    assert "from real reads" in as_text(result)
    assert "Two workers: " in as_text(result)


def test_tile__without_reads_is_refused(simulated_cohort: Path, tmp_path: Path) -> None:
    reference = simulated_cohort / "reference.fa"
    with pysam.FastaFile(str(reference)) as fasta:
        header = {"SQ": [{"SN": fasta.references[0], "LN": fasta.lengths[0]}], "HD": {"VN": "1.6", "SO": "coordinate"}}
    empty = tmp_path / "empty.bam"
    pysam.AlignmentFile(str(empty), "wb", header=header).close()
    pysam.index(str(empty))
    with pytest.raises(FedcallError, match=r"empty\.bam: no reads"):
        tile(empty, reference, None, 0.01, tmp_path)
