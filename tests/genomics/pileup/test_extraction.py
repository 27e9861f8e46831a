"""The pileup against pysam, on real reads and on awkward ones."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedcall.errors import FedcallError
from fedcall.genomics.examples import COUNT_CHANNELS, Examples, write_examples
from fedcall.genomics.pileup import extraction
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.count_kernels import count_channels, most_reads
from fedcall.genomics.pileup.extraction import extract_examples, make_stretches
from fedcall.genomics.reads.alignment_records import Records, fetch_records
from tiny_alignments import Read, write_alignments, write_reference, write_truth

SEQUENCE = "".join(random.Random(5).choices("ACGT", k=2_000))
FLAGS = 0xF04


def count(
    records: Records, reference: Path, contig: str, start: int, end: int, mates: np.ndarray | None = None
) -> np.ndarray:
    counts = np.zeros((end - start, len(COUNT_CHANNELS)), np.int32)
    events = np.empty((records.indels, 4), np.int64)
    with pysam.FastaFile(str(reference)) as fasta:
        codes = base_codes(fasta.fetch(contig, start, end))
    mates = records.mates if mates is None else mates
    count_channels(records.buffer, records.table, mates, codes, start, counts, events)
    return counts


def coverage(path: Path, contig: str, start: int, end: int) -> np.ndarray:
    with pysam.AlignmentFile(str(path)) as handle:
        arrays = handle.count_coverage(
            contig,
            start,
            end,
            quality_threshold=10,
            read_callback=lambda read: read.mapping_quality >= 5 and not read.flag & FLAGS,
        )
    return np.array(arrays).T


def counted_once(path: Path, contig: str, start: int, end: int) -> np.ndarray:
    """Bases per position, of two mates the better one and of equal ones the first, in plain Python."""
    best: dict[tuple[int, str, int], tuple[int, int]] = {}
    copies: Counter[tuple[str, bool]] = Counter()  # NA12878.bam holds one read twice: two copies are no mates
    with pysam.AlignmentFile(str(path)) as handle:
        for read in handle.fetch(contig, start, end):
            if read.mapping_quality < 5 or read.flag & FLAGS or read.query_sequence is None:
                continue
            copies[read.query_name, read.is_read1] += 1
            for query, position in read.get_aligned_pairs(matches_only=True):
                quality, base = read.query_qualities[query], "ACGT".find(read.query_sequence[query])
                key = (position, read.query_name, copies[read.query_name, read.is_read1])
                if base >= 0 and quality >= 10 and quality > best.get(key, (-1, 0))[0]:
                    best[key] = (quality, base)
    counts = np.zeros((end - start, 4), np.int64)
    for (position, _, _), (_, base) in best.items():
        if start <= position < end:
            counts[position - start, base] += 1
    return counts


def assert_equal_examples(one: Examples, other: Examples) -> None:
    for name in ("counts", "reference", "features", "log_likelihoods", "labels", "position", "allele_depths", "depth"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert [one.alleles(row) for row in range(len(one))] == [other.alleles(row) for row in range(len(other))]


@pytest.fixture(scope="module")
def people(shared_data: Path) -> list[tuple[Path, Path, str, int, int]]:
    """Return alignments, reference, contig and where the reads begin and end: the deepest first, then 36 people."""
    ceu, deep = shared_data / "ceu_1000g", shared_data / "na12878"
    return [
        (deep / "NA12878.bam", deep / "reference.fa.gz", "chr20", 10_000_000, 10_100_000),
        *((path, ceu / "reference.fa.gz", "20", 20_000_000, 20_150_000) for path in sorted(ceu.glob("*.bam"))),
    ]


@pytest.mark.real_data
@settings(max_examples=40, deadline=None)
@given(st.one_of(st.just(0), st.integers(1, 36)), st.floats(0, 1), st.integers(1, 900))
@example(0, 0.371, 1_200)
@example(0, 0.461, 1_200)
@example(0, 0.96875, 420)  # holds one read twice, and its mate
def test_count_channels__real_reads_as_pysam(people: list, person: int, share: float, width: int) -> None:
    path, reference, contig, first, last = people[person]
    start = first + int(share * (last - first - width))
    end = start + width
    with pysam.AlignmentFile(str(path)) as handle:
        records = fetch_records(path, reference, contig, handle.get_tid(contig), start, end)
    alone = count(records, reference, contig, start, end, np.full(len(records), -1))
    np.testing.assert_array_equal(alone[:, :4] + alone[:, 9:13], coverage(path, contig, start, end))
    once = count(records, reference, contig, start, end)
    np.testing.assert_array_equal(once[:, :4] + once[:, 9:13], counted_once(path, contig, start, end))


@st.composite
def awkward_reads(draw: st.DrawFn) -> list[Read]:
    reads = []
    for _ in range(draw(st.integers(1, 8))):
        middle = draw(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("M=XIDN")), min_size=1, max_size=7))
        middle = [pair for k, pair in enumerate(middle) if k == 0 or pair[1] != middle[k - 1][1]]
        if middle[0][1] in "DN":
            middle.insert(0, (3, "M"))
        if middle[-1][1] in "DN":
            middle.append((3, "M"))
        if not {"M", "=", "X"} & {operation for _, operation in middle}:
            middle.append((4, "M"))
        head = draw(st.sampled_from(["", "4S", "3H", "2H3S"]))
        tail = draw(st.sampled_from(["", "5S", "2H"]))
        length = sum(size for size, operation in middle if operation in "M=XI")
        length += {"4S": 4, "2H3S": 3}.get(head, 0) + {"5S": 5}.get(tail, 0)
        bases = draw(st.text("ACGTN", min_size=length, max_size=length))
        qualities = draw(st.lists(st.integers(0, 45), min_size=length, max_size=length))
        cigar = head + "".join(f"{size}{operation}" for size, operation in middle) + tail
        flag = draw(st.sampled_from([0, 16, 1024, 512, 256]))
        reads.append(
            Read(draw(st.integers(0, 120)), cigar, bases, qualities, flag, draw(st.sampled_from([0, 4, 5, 60])))
        )
    return reads


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=awkward_reads())
def test_count_channels__awkward_cigars_as_pysam(tmp_path: Path, reads: list[Read]) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads)
    records = fetch_records(path, reference, "c", 0, 20, 160)
    counts = count(records, reference, "c", 20, 160)
    np.testing.assert_array_equal(counts[:, :4] + counts[:, 9:13], coverage(path, "c", 20, 160))


def channels(tmp_path: Path, reads: list[Read]) -> dict[str, dict[int, int]]:
    """Positions with a count, per channel without strand."""
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads)
    counts = count(fetch_records(path, reference, "c", 0, 0, 300), reference, "c", 0, 300)
    pooled = counts[:, :9] + counts[:, 9:]
    return {
        name[:-1]: {int(at): int(pooled[at, k]) for at in np.flatnonzero(pooled[:, k])}
        for k, name in enumerate(COUNT_CHANNELS[:9])
        if name[0] in "ID*"
    }


def test_count_channels__indels_stand_before_their_place(tmp_path: Path) -> None:
    found = channels(tmp_path, [Read(100, "10M1I10M2D5M", SEQUENCE[100:126])])
    assert found == {"I": {109: 1}, "I1": {109: 1}, "D": {119: 1}, "D1": {}, "*": {120: 1, 121: 1}}


def test_count_channels__insertion_at_the_start_of_a_read_has_no_place(tmp_path: Path) -> None:
    found = channels(tmp_path, [Read(100, "3I10M", SEQUENCE[:13]), Read(150, "5S3I10M", SEQUENCE[:18])])
    assert found["I"] == {}


def test_count_channels__adjacent_insertion_and_deletion_both_count(tmp_path: Path) -> None:
    found = channels(tmp_path, [Read(100, "10M2I3D10M", SEQUENCE[:22])])
    assert found["I"] == {109: 1}
    assert found["D"] == {109: 1}
    assert found["*"] == {110: 1, 111: 1, 112: 1}


def test_count_channels__overlapping_mates_count_once(tmp_path: Path) -> None:
    wrong = ("A" if SEQUENCE[112] != "A" else "C") + SEQUENCE[113:130]
    first = Read(100, "20M", SEQUENCE[100:120], 30, 0x63, name="f", mate_position=112)
    second = Read(112, "18M", wrong, 20, 0x93, name="f", mate_position=100)
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, [first, second])
    counts = count(fetch_records(path, reference, "c", 0, 90, 140), reference, "c", 90, 140)
    assert counts.sum(1)[10:40].tolist() == [1] * 30
    assert counts[22, "ACGT".index(SEQUENCE[112])] == 1, "the better base of the two speaks"


def test_extract_examples__both_mates_show_the_indel(tmp_path: Path) -> None:
    spelled = SEQUENCE[:501] + "ACGT" + SEQUENCE[501:]
    reads = []
    for k in range(6):
        # The second read has more bases behind the insertion, so it is the one that speaks.
        for begin, flag, mate in ((460 + k, 0x63, 480 + k), (480 + k, 0x93, 460 + k)):
            before = 501 - begin
            cigar = f"{before}M4I{60 - before - 4}M"
            reads.append(Read(begin, cigar, spelled[begin : begin + 60], 30, flag, name=f"f{k}", mate_position=mate))
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
    assert examples.allele_depths.tolist() == [[0, 6]]
    assert examples.depth.tolist() == [6], "no mate passes for another allele"


def test_count_channels__missing_qualities_and_sequences(tmp_path: Path) -> None:
    reads = [Read(100, "10M", SEQUENCE[100:110], None), Read(100, "10M", None)]
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads)
    records = fetch_records(path, reference, "c", 0, 90, 120)
    assert len(records) == 2
    assert count(records, reference, "c", 90, 120).sum() == 10


@pytest.mark.real_data
def test_extract_examples__independent_of_shards_and_processes(shared_data: Path) -> None:
    folder = shared_data / "na12878"
    files = (folder / "NA12878.bam", folder / "reference.fa.gz", folder / "regions.bed", folder / "truth.vcf.gz")
    whole = extract_examples(*files)
    assert len(whole) > 150
    assert_equal_examples(whole, extract_examples(*files, stretch_length=3_001))
    assert_equal_examples(whole, extract_examples(*files, threads=2, stretch_length=30_000))


@pytest.mark.real_data
def test_extract_examples__counts_lie_in_32_bits_where_reads_are_many(shared_data: Path, monkeypatch) -> None:
    """Short counts are for depths that fit; the examples are the same."""
    alignments, reference = shared_data / "na12878/NA12878.bam", shared_data / "na12878/reference.fa.gz"
    start, end = 10_000_000, 10_020_000
    with pysam.AlignmentFile(str(alignments)) as file:
        contig = file.get_tid("chr20")
    records = fetch_records(alignments, reference, "chr20", contig, start, end)
    most = most_reads(records.table, start, end)
    assert count(records, reference, "chr20", start, end).max() <= most < 2 * len(records)
    assert most_reads(records.table, start + 5_000, start + 5_001) <= most
    assert most_reads(records.table[:0], start, end) == 0
    short = extract_examples(alignments, reference)
    monkeypatch.setattr(extraction, "_MOST_SHORT", 0)
    assert_equal_examples(short, extract_examples(alignments, reference))


def variant_reads(alt_reads: int, ref_reads: int) -> list[Read]:
    bases = list(SEQUENCE[480:540])
    bases[20] = "A" if bases[20] != "A" else "C"
    return [Read(480, "60M", "".join(bases)) for _ in range(alt_reads)] + [
        Read(480, "60M", SEQUENCE[480:540]) for _ in range(ref_reads)
    ]


def test_extract_examples__heterozygous_snp(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, variant_reads(8, 8))
    alt = "A" if SEQUENCE[500] != "A" else "C"
    truth = write_truth(tmp_path, {"c": len(SEQUENCE)}, [(500, SEQUENCE[500], alt, (0, 1))])
    examples = extract_examples(path, reference, None, truth)
    assert len(examples) == 1
    assert examples.alleles(0) == (SEQUENCE[500], alt)
    assert (examples.position[0], examples.labels[0], examples.depth[0]) == (500, 1, 16)
    assert examples.allele_depths[0].tolist() == [8, 8]
    assert examples.log_likelihoods[0].argmax() == 1
    assert examples.counts[0, :, 16].sum() == 16
    assert np.abs(examples.features).max() <= 3
    assert json.loads(examples.metadata["contigs"]) == ["c"]


def test_extract_examples__cram_as_bam(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, variant_reads(6, 3))
    cram = tmp_path / "reads.cram"
    pysam.view("-C", "-T", str(reference), "-o", str(cram), str(path), catch_stdout=False)
    pysam.index(str(cram))
    assert_equal_examples(extract_examples(path, reference), extract_examples(cram, reference))


@pytest.mark.parametrize("reads", [[], [Read(100, "30M", SEQUENCE[100:130])]])
def test_extract_examples__nothing_to_call(tmp_path: Path, reads: list[Read]) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    examples = extract_examples(write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads), reference)
    assert len(examples) == 0
    write_examples(tmp_path / "p.safetensors", examples)


def test_extract_examples__regions_bound_positions(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, variant_reads(8, 8))
    bed = tmp_path / "regions.bed"
    for text, expected in (("c\t500\t501\n", 1), ("c\t400\t500\n", 0), ("c\t501\t600\n", 0)):
        bed.write_text(text)
        assert len(extract_examples(path, reference, bed)) == expected


def test_extract_examples__truncated_alignments(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, variant_reads(8, 8))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FedcallError, match=r"reads\.bam"):
        extract_examples(path, reference)


@given(
    spans=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 30_000)), min_size=1, max_size=8),
    length=st.integers(500, 20_000),
)
def test_make_stretches__cover_every_base_once(spans: list[tuple[int, int]], length: int) -> None:
    regions, end = [], 0
    for gap, size in spans:
        regions.append(("c", end + gap + 1, end + gap + 1 + size))
        end = regions[-1][2]
    stretches = make_stretches([(region, region) for region in regions], length)
    pieces = [piece for stretch in stretches for piece in stretch.regions]
    assert all(stretch.end - stretch.start <= length for stretch in stretches)
    assert pieces == sorted(pieces)
    assert sum(b - a for a, b in pieces) == sum(b - a for _, a, b in regions)
    assert all(any(s <= a and b <= e for _, s, e in regions) for a, b in pieces)


@pytest.mark.real_data
def test_extract_examples__thinned_reads_are_a_part_of_all(shared_data: Path) -> None:
    folder = shared_data / "na12878"
    found = [
        extract_examples(folder / "NA12878.bam", folder / "reference.fa.gz", folder / "regions.bed", keep=keep)
        for keep in (1.0, 0.25)
    ]
    whole = dict(zip(found[0].position, found[0].depth, strict=True))
    shared = [
        (depth, whole[position])
        for position, depth in zip(found[1].position, found[1].depth, strict=True)
        if position in whole
    ]
    assert all(thinned <= depth for thinned, depth in shared)
    assert sum(thinned for thinned, _ in shared) / sum(depth for _, depth in shared) == pytest.approx(0.25, abs=0.05)
