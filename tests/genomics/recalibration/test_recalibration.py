"""A patient's own reads tell their base qualities and damage; where they contradict nothing, nothing is changed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.base_qualities.applying import Recalibration, reads_digest
from fedcall.genomics.base_qualities.table import RecalibrationTable, read_table, write_table
from fedcall.genomics.examples import Examples, write_examples
from fedcall.genomics.pileup.candidates import base_codes
from fedcall.genomics.pileup.extraction import extract_examples, spans_of
from fedcall.genomics.reads.alignment_records import fetch_records
from fedcall.genomics.recalibration.counting import Counts, count_errors, sample_pieces
from fedcall.genomics.recalibration.fitting import COUNTED_ARE_BETTER, fit_table
from fedcall.genomics.reference import kept_reference
from reads_with_errors import LENGTH, oxidised, write_person
from tiny_alignments import Read, write_alignments, write_reference

SEQUENCE = "ACGTTGCATC" * 60
G, T = 2, 3


def table_of(alignments: Path, reference: Path, regions: Path | None = None) -> RecalibrationTable:
    counts = count_errors(alignments, reference, spans_of(alignments, reference, regions))
    return fit_table(counts, reads_digest(alignments))


def equal(one: Examples, other: Examples) -> bool:
    arrays = [field.name for field in dataclasses.fields(Examples) if field.name != "metadata"]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)


def counts_of(tmp_path: Path, reads: list[Read]) -> Counts:
    reference = write_reference(tmp_path, {"c": SEQUENCE})
    path = write_alignments(tmp_path, {"c": len(SEQUENCE)}, reads)
    return count_errors(path, reference, [("c", 0, len(SEQUENCE))])


def read(position: int = 100, changes: dict[int, str] | None = None, **fields: object) -> Read:
    bases = list(SEQUENCE[position : position + 60])
    for at, base in (changes or {}).items():
        bases[at - position] = base
    return Read(position, "60M", "".join(bases), **fields)  # type: ignore[arg-type]


def test_count_errors__one_read_alone_is_an_error_and_two_are_a_candidate(tmp_path: Path) -> None:
    other = "A" if SEQUENCE[130] != "A" else "C"
    one = counts_of(tmp_path, [read(), read(), read(), read(changes={130: other})])
    assert one.mismatches.sum() == 1
    # Of the read with the error, the bases within 10 of it are left out, but for the error itself.
    assert one.bases.sum() == 4 * 60 - 20
    assert one.bases[35].sum() == one.bases.sum()
    two = counts_of(tmp_path, [read(), read(), read(changes={130: other}), read(changes={130: other})])
    assert two.mismatches.sum() == 0
    assert two.bases.sum() == 4 * 60 - 4 - 2 * 20


def test_count_errors__bases_near_another_mismatch_a_gap_or_a_clip_do_not_count(tmp_path: Path) -> None:
    two = {at: "A" if SEQUENCE[at] != "A" else "C" for at in (125, 130)}
    clipped = Read(100, "5S55M", "ACGTA" + SEQUENCE[100:155])
    whole = [read(), read(), read()]
    # Both errors, and what is around them: 115 to 140.
    assert counts_of(tmp_path, [*whole, read(changes=two)]).mismatches.sum() == 0
    assert counts_of(tmp_path, [*whole, read(changes=two)]).bases.sum() == 3 * 60 + 60 - 26
    assert counts_of(tmp_path, [*whole, clipped]).bases.sum() == 3 * 60 + 55 - 10
    deleted = Read(100, "30M1D30M", SEQUENCE[100:130] + SEQUENCE[131:161])
    # Where a read has a gap, nobody counts; beside it, the reads without it do. Over its last base there is no other.
    found = counts_of(tmp_path, [*whole, deleted])
    assert found.bases.sum() == 3 * 60 - 3 * 2 + 60 - 22 - 1


@pytest.mark.parametrize("odd", [{"mapping_quality": 19}, {"qualities": None}, {"qualities": 9}])
def test_count_errors__reads_that_say_little_do_not_count(tmp_path: Path, odd: dict[str, object]) -> None:
    assert counts_of(tmp_path, [read(), read(), read(), read(**odd)]).bases.sum() == 3 * 60


def test_count_errors__as_sequenced(tmp_path: Path) -> None:
    """A reverse read that shows A for C was sequenced as T for G, and its first base is its last."""
    place = SEQUENCE.index("C", 125)
    mate = {"flag": 1 | 128 | 16}
    found = counts_of(tmp_path, [read(), read(), read(), read(changes={place: "A"}, **mate)])
    assert found.mismatches.sum() == found.mismatches[35, 1, :, G, T].sum() == 1
    last = SEQUENCE.index("C", 159)
    assert last == 159
    found = counts_of(tmp_path, [read(), read(), read(), read(changes={last: "A"}, **mate)])
    assert found.mismatches[35, 1, 0, G, T] == 1


def test_sample_pieces__every_piece_once() -> None:
    spans = [("1", 0, 250_001), ("2", 5, 90_000)]
    pieces = list(sample_pieces(spans))
    assert len(set(pieces)) == len(pieces)
    assert sum(end - start for _, start, end in pieces) == sum(end - start for _, start, end in spans)


def test_count_errors__stops_when_it_has_enough(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.001, 30, bases=60_000, depth=5)
    all_of_it = count_errors(path, reference, [("c", 0, 60_000)])
    some = count_errors(path, reference, [("c", 0, 60_000)], enough=1)
    assert len(all_of_it.pieces) == 3
    assert len(some.pieces) == 1
    assert sum(piece[0] for piece in all_of_it.pieces) == all_of_it.bases.sum()


def test_fit_table__right_qualities_are_left_alone_bit_for_bit(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.001, 30)
    table = table_of(path, reference)
    assert table.leaves_alone
    write_table(tmp_path / "table.json", table)
    with_table = extract_examples(path, reference, recalibration=tmp_path / "table.json")
    assert equal(with_table, extract_examples(path, reference))


def test_fit_table__few_reads_contradict_nothing(tmp_path: Path) -> None:
    """A handful of errors is chance: nothing is lowered for it."""
    path, reference = write_person(tmp_path, 0.01, 26, bases=600, depth=4)
    assert table_of(path, reference).leaves_alone


def test_fit_table__no_reads(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.01, 40, bases=200, depth=1)
    assert table_of(path, reference).leaves_alone


def test_fit_table__too_high_qualities_are_measured(tmp_path: Path) -> None:
    """Errors of Phred 20 that are reported as 35, in reads of which 4 Phred more are believed for being clean."""
    path, reference = write_person(tmp_path, 0.01, 35)
    table = table_of(path, reference)
    used = {row.reported: row.used for row in table.qualities}
    assert used[35] == pytest.approx(20 - COUNTED_ARE_BETTER, abs=1)
    assert all(used[quality] <= used[quality + 1] for quality in range(10, 63))
    assert all(used[quality] <= quality for quality in used)
    assert table.overstated_at_least < table.overstated
    assert not table.damage


def test_fit_table__qualities_are_never_raised(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.0001, 15)
    assert table_of(path, reference).leaves_alone


def test_fit_table__damage_is_told_from_errors(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.001, 30, oxidised(0.02))
    table = table_of(path, reference)
    assert not table.qualities
    assert {(row.kind, row.mate) for row in table.damage} == {("G>T", 1)}
    assert np.average([row.rate for row in table.damage], weights=[row.bases for row in table.damage]) == pytest.approx(
        0.02, rel=0.15
    )
    assert any("G>T in read 1" in line for line in table.in_words())


def test_recalibration__lowers_mismatches_that_damage_explains_and_nothing_else(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.001, 30, oxidised(0.02))
    table = table_of(path, reference)
    records = fetch_records(path, reference, "c", 0, 0, 20_000)
    sequence = base_codes(kept_reference(reference).fetch("c", 0, 20_000))
    before = records.buffer.copy()
    Recalibration(table).apply(records, sequence, 0)
    changed = np.flatnonzero(before != records.buffer)
    assert set(before[changed]) == {30}
    assert 11 < records.buffer[changed].mean() < 13  # -10 log10(0.001 + 3 * 0.02) is 12.1
    assert 0.01 < len(changed) / (len(records) / 2 * LENGTH / 4) < 0.03


def test_extract_examples__recalibrated_independent_of_stretches(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.01, 35, oxidised(0.02))
    table = table_of(path, reference)
    assert table.qualities
    assert table.damage
    write_table(tmp_path / "table.json", table)
    whole = extract_examples(path, reference, recalibration=tmp_path / "table.json")
    assert not equal(whole, extract_examples(path, reference))
    for pieces in ({"stretch_length": 1_777}, {"stretch_length": 5_000, "threads": 2}):
        assert equal(whole, extract_examples(path, reference, recalibration=tmp_path / "table.json", **pieces))


def test_read_table__a_table_is_for_the_reads_it_was_made_from(tmp_path: Path) -> None:
    """Nobody's examples depend on another patient's reads by way of a table, not even by mistake."""
    one, reference = write_person(tmp_path, 0.01, 35, name="one.bam")
    other, _ = write_person(tmp_path, 0.01, 35, seed=2, name="other.bam")
    write_table(tmp_path / "one.json", table_of(one, reference))
    assert len(extract_examples(one, reference, recalibration=tmp_path / "one.json")) > 0
    with pytest.raises(FedcallError, match=r"one\.json: made from other reads; a patient's table is for that patient"):
        extract_examples(other, reference, recalibration=tmp_path / "one.json")


def test_recalibrate__one_patients_reads_change_nobody_elses_files(tmp_path: Path) -> None:
    """One process works on both, so that nothing of one patient stays in it and reaches the other."""

    def files_of_second(first: Path, reference: Path) -> tuple[bytes, bytes]:
        second, _ = write_person(tmp_path, 0.01, 35, seed=2, bases=8_000, name="second.bam")
        for one in (first, second):
            table, examples = one.with_suffix(".json"), one.with_suffix(".safetensors")
            write_table(table, table_of(one, reference))
            write_examples(examples, extract_examples(one, reference, recalibration=table))
        return table.read_bytes(), examples.read_bytes()

    first, reference = write_person(tmp_path, 0.01, 35, bases=8_000, name="first.bam")
    before, table = files_of_second(first, reference), first.with_suffix(".json").read_bytes()
    first, reference = write_person(tmp_path, 0.05, 39, oxidised(0.05), bases=8_000, name="first.bam")
    after = files_of_second(first, reference)
    assert before == after
    assert first.with_suffix(".json").read_bytes() != table


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": "fedcall.recalibration/2"}', "[1]", "\x00"])
def test_read_table__what_is_no_table_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(FedcallError, match=r"table\.json: not a table of 'fedcall recalibrate'") as refused:
        read_table(path, "0" * 64)
    assert "\n" not in str(refused.value)


def test_write_table__equal_reads_equal_bytes(tmp_path: Path) -> None:
    path, reference = write_person(tmp_path, 0.01, 35, oxidised(0.02))
    for name in ("a.json", "b.json"):
        write_table(tmp_path / name, table_of(path, reference))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_table(tmp_path / "a.json", reads_digest(path)) == table_of(path, reference)


@pytest.mark.real_data
def test_fit_table__real_people_whose_qualities_are_right(shared_data: Path) -> None:
    """Of real people nobody's qualities are lowered; stated 8 too high, they are."""
    folder = shared_data / "ceu_1000g"
    for name in ("NA12717", "NA12777", "NA12058", "NA12489"):
        alignments, reference = folder / f"{name}.bam", folder / "reference.fa.gz"
        counts = count_errors(alignments, reference, spans_of(alignments, reference, folder / "regions.bed"))
        assert not fit_table(counts, "0" * 64).qualities
        higher = Counts(*(np.roll(array, 8, axis=0) for array in (counts.bases, counts.mismatches, counts.variants)))
        higher.pieces = [(bases, wrong, expected / 10**0.8) for bases, wrong, expected in counts.pieces]
        table = fit_table(higher, "0" * 64)
        lowered = np.array([(row.reported - row.used, row.bases) for row in table.qualities if row.bases > 10_000])
        assert 4 <= np.average(lowered[:, 0], weights=lowered[:, 1]) <= 11
