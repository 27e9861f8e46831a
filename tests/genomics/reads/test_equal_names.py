"""Pairs that share a name: each read gets the number of its own pair, further alignments that of their read."""

from pathlib import Path

import pysam

from fedcall.genomics.reads.equal_names import name_again, name_apart, share_names

HEADER = pysam.AlignmentHeader.from_dict({"HD": {"VN": "1.6"}, "SQ": [{"SN": "1", "LN": 1000}]})
PAIRED, FIRST, SECOND, FURTHER = 0x1, 0x40, 0x80, 0x800


def read(flag: int, start: int, mate: int) -> pysam.AlignedSegment:
    line = f"x\t{PAIRED | flag}\t1\t{start}\t60\t20M\t=\t{mate}\t0\t{'A' * 20}\t{'I' * 20}"
    return pysam.AlignedSegment.fromstring(line, HEADER)


def written(path: Path, reads: list[pysam.AlignedSegment]) -> Path:
    with pysam.AlignmentFile(str(path), "wb", header=HEADER) as handle:
        for one in reads:
            handle.write(one)
    return path


def shown(path: Path) -> list[tuple[str | None, int, int]]:
    with pysam.AlignmentFile(str(path)) as handle:
        return [(one.query_name, one.flag, one.reference_start + 1) for one in handle.fetch(until_eof=True)]


def test_name_apart__a_further_alignment_goes_with_the_read_whose_side_it_is_of(tmp_path: Path) -> None:
    # Its mate starts where the first read of the other pair starts, so places alone do not tell.
    reads = [
        *(read(FIRST, 300, 500), read(SECOND, 500, 300)),
        *(read(FIRST, 100, 300), read(SECOND, 300, 100), read(FIRST | FURTHER, 700, 300)),
    ]
    source = written(tmp_path / "collated.bam", reads)
    assert share_names(source)
    name_apart(source, tmp_path / "apart.bam")
    names = {(flag, start): name for name, flag, start in shown(tmp_path / "apart.bam")}
    assert len(set(names.values())) == 2
    assert names[PAIRED | FIRST | FURTHER, 700] == names[PAIRED | FIRST, 100] == names[PAIRED | SECOND, 300]
    assert names[PAIRED | FIRST, 300] == names[PAIRED | SECOND, 500] != names[PAIRED | FIRST, 100]
    name_again(tmp_path / "apart.bam", tmp_path / "again.bam")
    assert sorted(shown(tmp_path / "again.bam"), key=str) == sorted(shown(source), key=str)
