"""Fingerprints: the same reads are known again in whatever order they stand, other reads are not."""

import random
from pathlib import Path

from fedcall.genomics.fingerprints import LEAST_READS, reads_fingerprint


def fastq(path: Path, reads: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"@{name}\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in reads))
    return path


def test_reads_fingerprint__does_not_depend_on_the_order_of_reads(tmp_path: Path) -> None:
    generator = random.Random(1)
    reads = [(f"read{number}", "".join(generator.choices("ACGT", k=50))) for number in range(20)]
    changed = [*reads[:-1], (reads[-1][0], "A" * 50)]
    shuffled = random.Random(2).sample(reads, len(reads))
    first, second, other = (
        reads_fingerprint(None, fastq(tmp_path / f"{name}.fq", own), None)
        for name, own in (("first", reads), ("second", shuffled), ("other", changed))
    )
    assert first == second != ()
    assert other not in ((), first)
    assert reads_fingerprint(None, fastq(tmp_path / "few.fq", reads[: LEAST_READS - 1]), None) == ()
