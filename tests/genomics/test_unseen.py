"""Regions that training leaves out: nobody may be scored where somebody was trained."""

from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.unseen import MARGIN, intersect, subtract, training_regions, unseen_regions, write_bed


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.fa"
    path.write_text(">1\n" + "A" * 10_000 + "\n>2\n" + "C" * 5_000 + "\n")
    Path(f"{path}.fai").write_text("1\t10000\t3\t10000\t10001\n2\t5000\t10007\t5000\t5001\n")
    return path


def bed(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_training_regions__leaves_out_the_agreed_regions_and_a_margin(reference: Path, tmp_path: Path) -> None:
    own = bed(tmp_path / "own.bed", "1\t1000\t9000", "2\t0\t5000")
    left = training_regions(own, reference, ["1:5001-6000", "2"])
    assert left == [("1", 1000, 5000 - MARGIN), ("1", 6000 + MARGIN, 9000)]
    assert training_regions(None, reference, ["2"]) == [("1", 0, 10_000)]


def test_training_regions__nothing_left_is_refused(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(FedcallError, match="nothing is left to train on"):
        training_regions(bed(tmp_path / "own.bed", "2\t10\t20"), reference, ["2"])


@pytest.mark.parametrize("region", ["3", "chr3:1-10", "1:9000-10001"])
def test_training_regions__region_outside_of_the_reference_is_refused(region: str, reference: Path) -> None:
    with pytest.raises(FedcallError, match=r"evaluation\.regions"):
        training_regions(None, reference, [region])


def test_unseen_regions__never_meets_what_was_trained_on(reference: Path, tmp_path: Path) -> None:
    own = bed(tmp_path / "own.bed", "1\t1000\t9000", "2\t0\t5000")
    agreed = unseen_regions(own, reference, ["1:5001-6000"], None)
    assert agreed == [("1", 5000, 6000)]
    assert not intersect(agreed, training_regions(own, reference, ["1:5001-6000"]))
    trained = [bed(tmp_path / "one.bed", "1\t0\t4000"), bed(tmp_path / "other.bed", "1\t3000\t8000", "2\t0\t5000")]
    assert unseen_regions(own, reference, (), trained) == [("1", 8000 + MARGIN, 9000)]


def test_unseen_regions__is_empty_where_it_is_not_known_who_trained_where(reference: Path, tmp_path: Path) -> None:
    own = bed(tmp_path / "own.bed", "1\t1000\t9000")
    assert unseen_regions(own, reference, (), None) == []
    assert write_bed(tmp_path / "unseen.bed", []) == 0
    assert (tmp_path / "unseen.bed").read_text() == ""


def test_subtract_and_intersect__share_out_every_base() -> None:
    spans, others = [("1", 0, 100), ("2", 5, 9)], [("1", 90, 200), ("1", 10, 20), ("1", 15, 30)]
    left, common = subtract(spans, others), intersect(spans, others)
    assert left == [("1", 0, 10), ("1", 30, 90), ("2", 5, 9)]
    assert common == [("1", 10, 30), ("1", 90, 100)]


def test_unseen_regions__contigs_go_by_either_name(reference: Path, tmp_path: Path) -> None:
    own = bed(tmp_path / "own.bed", "1\t1000\t9000")
    assert unseen_regions(own, reference, ["chr1:5001-6000"], None) == [("1", 5000, 6000)]
    assert training_regions(own, reference, ["chr1:5001-9000"]) == [("1", 1000, 5000 - MARGIN)]
    elsewhere = bed(tmp_path / "trained.bed", "chr1\t0\t6000", "chr7\t0\t99999")
    assert unseen_regions(own, reference, (), [elsewhere]) == [("1", 6000 + MARGIN, 9000)]
