"""Genomes of many contigs: what is found on each, and the reference's index is read once, not once a contig."""

import random
from pathlib import Path

import pysam
import pytest

from fedcall.genomics import reference as references
from fedcall.genomics.pileup.extraction import extract_examples
from tiny_alignments import write_reference

CONTIGS, LENGTH, EVERY, AT = 1_500, 1_000, 10, 480
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def test_extract_examples__of_many_contigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contigs = {f"ctg{k}": "".join(random.Random(k).choices("ACGT", k=LENGTH)) for k in range(CONTIGS)}
    reference = write_reference(tmp_path, contigs)
    header = pysam.AlignmentHeader.from_dict(
        {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": name, "LN": LENGTH} for name in contigs]}
    )
    with pysam.AlignmentFile(str(tmp_path / "reads.bam"), "wb", header=header) as handle:
        for number, (name, bases) in list(enumerate(contigs.items()))[::EVERY]:
            own = bases[:AT] + OTHER[bases[AT]] + bases[AT + 1 :]
            for k in range(20):
                start = 400 + 4 * k
                line = f"{name}r{k}\t0\t{name}\t{start + 1}\t60\t100M\t*\t0\t0\t{own[start : start + 100]}\t{'I' * 100}"
                handle.write(pysam.AlignedSegment.fromstring(line, header))
            assert header.get_tid(name) == number
    pysam.index(str(tmp_path / "reads.bam"))
    opened = []

    class Counted(references.Fasta):
        def __init__(self, *_: object, **__: object) -> None:
            opened.append(self)

    monkeypatch.setattr(references, "Fasta", Counted)
    references._kept_reference.cache_clear()
    examples = extract_examples(tmp_path / "reads.bam", reference)
    references._kept_reference.cache_clear()
    found = [(examples.contigs[contig], int(at)) for contig, at in zip(examples.contig, examples.position, strict=True)]
    assert found == [(name, AT) for name in list(contigs)[::EVERY]]
    assert len(opened) < 5
