"""Reads that say they are aligned and not where, or where no aligner would put them: no read is lost over one."""

import gzip
import random
from pathlib import Path

import pysam
import pytest

from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.reads.normalise_alignments import normalise_alignments
from tiny_alignments import write_reference

BASES = "".join(random.Random(1).choices("ACGT", k=600))
AT = 110
SHOWN = f"{BASES[:50]}\t{'I' * 50}"
ODD = {
    "mapped, at position 0": f"x\t0\tc\t0\t60\t50M\t*\t0\t0\t{SHOWN}",
    "mapped, on no contig": f"x\t0\t*\t0\t60\t50M\t*\t0\t0\t{SHOWN}",
    "unmapped, placed": f"x\t4\tc\t100\t0\t50M\t*\t0\t0\t{SHOWN}",
    "unmapped, at position 0": f"x\t4\tc\t0\t0\t*\t*\t0\t0\t{SHOWN}",
    "a mate without place": f"x\t73\tc\t100\t60\t50M\t*\t0\t0\t{SHOWN}\nx\t133\t*\t0\t0\t*\tc\t100\t0\t{SHOWN}",
    "a mate at position 0": f"x\t99\tc\t0\t60\t50M\tc\t100\t149\t{SHOWN}\nx\t147\tc\t100\t60\t50M\tc\t0\t-149\t{SHOWN}",
    "beyond the end": f"x\t0\tc\t590\t60\t50M\t*\t0\t0\t{SHOWN}",
    "mapped, without a CIGAR": f"x\t0\tc\t100\t60\t*\t*\t0\t0\t{SHOWN}",
    "two first reads": f"x\t65\tc\t100\t60\t50M\tc\t120\t0\t{SHOWN}\nx\t65\tc\t120\t60\t50M\tc\t100\t0\t{SHOWN}",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ["reads.sam", "reads.sam.gz", "reads.bam"])
def test_normalise_alignments__reads_without_place_and_a_file_without_index(
    tmp_path: Path, odd: str, name: str
) -> None:
    reference = write_reference(tmp_path, {"c": BASES, "d": BASES[::-1]})
    own = BASES[:AT] + ("A" if BASES[AT] != "A" else "C") + BASES[AT + 1 :]
    lines = [f"r{k}\t0\tc\t{101 + k}\t60\t50M\t*\t0\t0\t{own[100 + k : 150 + k]}\t{'I' * 50}" for k in range(10)]
    lines += odd.split("\n")
    (tmp_path / "reads.sam").write_text(
        "\n".join(["@HD\tVN:1.6\tSO:coordinate", "@SQ\tSN:c\tLN:600", "@SQ\tSN:d\tLN:600", *lines]) + "\n"
    )
    (tmp_path / "reads.sam.gz").write_bytes(gzip.compress((tmp_path / "reads.sam").read_bytes()))
    pysam.view("-b", "-o", str(tmp_path / "reads.bam"), str(tmp_path / "reads.sam"), catch_stdout=False)
    (tmp_path / "out.bam.csi").write_bytes(b"of an earlier file, and htslib would take it first")
    summary = normalise_alignments(tmp_path / name, reference, tmp_path / "out.bam")
    assert not (tmp_path / "out.bam.csi").exists()
    assert summary.reads == len(lines)
    found = extract_examples(tmp_path / "out.bam", reference)
    row = found.position.tolist().index(AT)
    assert found.allele_depths[row, 1] == 10
