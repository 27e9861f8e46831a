"""A small reference with records on it, for the tests of other callers."""

from pathlib import Path

import pysam
import pytest

BASES = "ACGTTGCAGATCCGATTACAGGCATCCTAGGTCATCGACTGCAAGGTCCATGCATTGACGGATCTTACGGCA" * 3


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Return an indexed FASTA with contigs a and b of 216 bases each."""
    path = tmp_path / "genome.fa"
    path.write_text(f">a\n{BASES}\n>b\n{BASES}\n")
    pysam.faidx(str(path))
    return path
