"""Tangled reads are laid along haplotypes that the reads themselves spell."""

import random
from pathlib import Path

import numpy as np
import pytest

from fedcall.genomics.examples import concatenate
from fedcall.genomics.pileup.assembly import assemble
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.extraction import extract_examples
from fedcall.genomics.pileup.reassembly import reassemble
from fedcall.genomics.pileup.reassembly_kernels import align_haplotype
from fedcall.genomics.reads import record_fields as fields
from fedcall.genomics.reads.alignment_records import Records, fetch_records
from fedcall.genomics.shards import Shard
from fedcall.model.encoding import log_posteriors
from tiny_alignments import Read, write_alignments, write_reference

_BASES = random.Random(8)
LEFT, RIGHT = ("".join(_BASES.choice("ACGT") for _ in range(600)) for _ in range(2))
REPEAT = "GATA" * 5 + "C" + "GATA" * 4
SEQUENCE = LEFT + "C" + REPEAT + "CC" + RIGHT
AT = len(LEFT)  # the C before the repeat
SECOND = AT + 21  # the C inside it
LENGTH = 100
HAPLOTYPE = LEFT + "C" + "GATA" + REPEAT + "GATAGATA" + "CC" + RIGHT
TRUTH = {(AT, "C", "CGATA"), (SECOND, "C", "CGATAGATA")}


def spanning(begin: int, mapping_quality: int = 60) -> Read:
    """A read of the haplotype over the whole repeat, aligned with other gaps than its two."""
    before = AT + 11 - begin
    cigar = f"{before}M5I9M7I{LENGTH - before - 21}M"
    return Read(begin, cigar, HAPLOTYPE[begin : begin + LENGTH], mapping_quality=mapping_quality)


def plain(begin: int) -> Read:
    return Read(begin, f"{LENGTH}M", SEQUENCE[begin : begin + LENGTH])


def beyond(begin: int) -> Read:
    """A read of the haplotype that begins behind the repeat."""
    return Read(begin, f"{LENGTH}M", HAPLOTYPE[begin + 12 : begin + 12 + LENGTH])


TANGLED = [spanning(AT - 38 + k // 2) for k in range(20)] + [plain(AT - 110 + k) for k in range(9)]
TANGLED += [beyond(AT + 45 + k) for k in range(9)]


def alignments(folder: Path, reads: list[Read]) -> tuple[Path, Path]:
    return write_alignments(folder, {"1": len(SEQUENCE)}, reads), write_reference(folder, {"1": SEQUENCE})


def records_of(folder: Path, reads: list[Read]) -> Records:
    path, reference = alignments(folder, reads)
    return fetch_records(path, reference, "1", 0, 0, len(SEQUENCE))


def called(folder: Path, reads: list[Read]) -> dict[tuple[int, str, str], int]:
    examples = extract_examples(*alignments(folder, reads))
    copies = log_posteriors(examples).argmax(1)
    return {
        (int(examples.position[row]), *examples.alleles(row)): int(copies[row]) for row in np.flatnonzero(copies > 0)
    }


def test_reassemble__two_changes_that_no_cigar_holds(tmp_path: Path) -> None:
    assert called(tmp_path, TANGLED) == dict.fromkeys(TRUTH, 2)


def test_reassemble__beside_reads_of_the_reference(tmp_path: Path) -> None:
    reads = TANGLED + [plain(AT - 40 + k) for k in range(20)]
    assert called(tmp_path, reads) == dict.fromkeys(TRUTH, 1)


@pytest.mark.parametrize("size", [-40, 30])
def test_reassemble__an_indel_that_reads_only_end_at(tmp_path: Path, size: int) -> None:
    """The aligner clipped every read at the indel: no CIGAR shows it."""
    rng = random.Random(6)
    inserted = "".join(rng.choice("ACGT") for _ in range(max(size, 0)))
    place = 250
    changed = SEQUENCE[: place + 1] + inserted + SEQUENCE[place + 1 + max(-size, 0) :]
    reads = []
    for begin in range(place - 80, place - 20, 5):
        kept = place + 1 - begin
        reads.append(Read(begin, f"{kept}M{LENGTH - kept}S", changed[begin : begin + LENGTH]))
    found = called(tmp_path, reads + [plain(place - 95 + 5 * k) for k in range(12)])
    (allele,) = found
    position, ref, alt = allele
    assert len(alt) - len(ref) == size
    assert SEQUENCE[:position] + alt + SEQUENCE[position + len(ref) :] == changed
    assert found[allele] == 1


def test_reassemble__records_stay_whole(tmp_path: Path) -> None:
    before = records_of(tmp_path, TANGLED)
    after = reassemble(before, base_codes(SEQUENCE), 0)
    table = after.table
    assert after.settled.sum() >= 20
    assert after.indels >= 2 * 20
    untouched = [column for column in range(table.shape[1]) if column not in (
        fields.POSITION, fields.END, fields.CIGAR, fields.CIGAR_OPS, fields.HEAD, fields.TAIL
    )]  # fmt: skip
    np.testing.assert_array_equal(table[:, untouched], before.table[:, untouched])
    for row in np.flatnonzero(after.settled):
        first = table[row, fields.CIGAR]
        cigar = after.buffer[first : first + 4 * table[row, fields.CIGAR_OPS]].view("<u4")
        operation, size = cigar & 15, (cigar >> 4).astype(int)
        assert size[(operation == 0) | (operation == 1) | (operation == 4)].sum() == LENGTH
        assert table[row, fields.POSITION] + size[(operation == 0) | (operation == 2)].sum() == table[row, fields.END]


@pytest.mark.parametrize("reads", [[spanning(AT - 40), spanning(AT - 35)], [plain(AT - 40 + k) for k in range(20)]])
def test_reassemble__too_few_tangled_reads_stay(tmp_path: Path, reads: list[Read]) -> None:
    records = records_of(tmp_path, reads)
    assert reassemble(records, base_codes(SEQUENCE), 0) is records


def test_reassemble__reads_that_agree_on_nothing_stay(tmp_path: Path) -> None:
    rng = random.Random(2)
    reads = [
        Read(read.position, read.cigar, "".join(rng.choice("ACGT") for _ in range(LENGTH))) for read in TANGLED[:20]
    ]
    records = records_of(tmp_path, reads)
    assert reassemble(records, base_codes(SEQUENCE), 0) is records


@pytest.mark.parametrize("cut", [AT - 1, AT + 10, SECOND - 2])
def test_reassemble__does_not_depend_on_where_the_work_is_cut(tmp_path: Path, cut: int) -> None:
    files = alignments(tmp_path, TANGLED)
    whole = extract_examples(*files)
    bed = tmp_path / "regions.bed"
    bed.write_text(f"1\t0\t{2 * cut}\n")
    halves = concatenate([extract_examples(*files, bed, shard=Shard(k, 2)) for k in (1, 2)])
    inside = np.flatnonzero(whole.position < 2 * cut)
    np.testing.assert_array_equal(halves.position, whole.position[inside])
    np.testing.assert_array_equal(halves.log_likelihoods, whole.log_likelihoods[inside])


def test_assemble__larger_words_see_through_a_repeat() -> None:
    unit = "GATTACAGGCATCGTTAACCGTCAGGTACC"
    text = LEFT[-200:] + unit * 2 + RIGHT[:200]
    changed = LEFT[-200:] + unit * 3 + RIGHT[:200]
    reads = np.stack([base_codes(changed[at : at + 150]) for at in range(0, len(changed) - 149)])
    lengths = np.full(len(reads), 150)
    assembled = assemble(reads, np.full_like(reads, 35), lengths, base_codes(text), 195, 265)
    assert assembled is not None
    first, last, (path,) = assembled
    assert "".join("ACGT"[base] for base in path) == changed[first : last + len(unit)]


@pytest.mark.parametrize(
    ("haplotype", "gaps"),
    [
        ("ACGTTTTTGACCAT", []),
        ("ACGTTTTTTGACCAT", [3]),
        ("ACGTTTGACCAT", []),
    ],
)
def test_align_haplotype__gaps_stand_leftmost(haplotype: str, gaps: list[int]) -> None:
    stands = align_haplotype(base_codes(haplotype), base_codes("ACGTTTTTGACCAT"))
    assert np.flatnonzero(stands < 0).tolist() == gaps
    placed = stands[stands >= 0]
    assert (np.diff(placed) > 0).all()
    if len(haplotype) == 12:
        assert np.flatnonzero(np.diff(placed) > 1).tolist() == [2]
