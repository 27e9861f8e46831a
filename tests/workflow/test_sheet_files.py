"""Sheets as spreadsheets and other systems save them."""

from pathlib import Path

import pytest

from fedcall.errors import FedcallError
from fedcall.workflow.configuration import read_config, read_samples
from fedcall.workflow.rows_of_people import check_rows

HEADER = "patient\tsite\talignments\ttruth\tregions\tsplit\tsample\n"


def row(name: str, sample: str = "", split: str = "train") -> str:
    return f"{name}\tnorth\treads.bam\t\t\t{split}\t{sample}\n"


@pytest.fixture
def sheet(tmp_path: Path):
    (tmp_path / "reads.bam").touch()

    def write(content: str | bytes) -> Path:
        path = tmp_path / "samples.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_read_samples__a_stray_quotation_mark_swallows_nothing(sheet) -> None:
    text = HEADER + row("P0") + row("P1", '"P1') + row("P2") + row("P3", split="holdout")
    with pytest.raises(FedcallError, match=r"samples\.tsv:3: a quotation mark begins the cell \"P1 and none ends it"):
        read_samples(sheet(text))


@pytest.mark.parametrize(
    ("cell", "sample"), [('"P1"', "P1"), ('"a,b"', "a,b"), ('"say ""a"""', 'say "a"'), ('5"', '5"'), ('a"b"c', 'a"b"c')]
)
def test_read_samples__quotation_marks_of_spreadsheets(sheet, cell, sample) -> None:
    found = read_samples(sheet(HEADER + row("P0", cell) + row("P1")))
    assert [patient.sample for patient in found] == [sample, None]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + row("P0") + row("P1"),
        (HEADER + row("P0") + row("P1")).replace("\n", "\r\n"),
        (HEADER + row("P0") + row("P1")).replace("\n", "\r"),
        HEADER + row("P0") + "\t\t\t\t\t\t\n\n" + row("P1") + "\n\n",
        (HEADER + row("P0") + row("P1")).rstrip("\n"),
        HEADER.replace("\n", "\t\t\n") + row("P0").replace("\n", "\t\t\n") + row("P1"),
        " " + HEADER.replace("\t", " \t ") + row("P0") + row("P1"),
    ],
)
def test_read_samples__harmless_differences(sheet, text) -> None:
    assert [patient.patient for patient in read_samples(sheet(text))] == ["P0", "P1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((HEADER + row("P0")).encode("utf-16"), r"samples\.tsv: UTF-16 text .*save it as UTF-8"),
        ((HEADER + row("P0")).encode("utf-16-le"), r"samples\.tsv: UTF-16 text"),
        ((HEADER + row("P0") + row("P1", "Åse")).encode("latin-1"), r"samples\.tsv:3: not UTF-8 \(byte 0xc5"),
        (HEADER + row("P0") + "\n\n" + row("P1", split="test"), r"samples\.tsv:5: .*'test'"),
        (HEADER + row("P0") + "\n" + row("P0"), r"samples\.tsv:4: patient 'P0' is already in line 2"),
        (HEADER + row("P0").replace("\n", "\textra\n"), r"samples\.tsv:2: 8 cells in a row, but 7 columns .*'extra'"),
        (HEADER.replace("sample\n", "site\n") + row("P0"), r"samples\.tsv:1: column 'site' is there twice"),
        ((HEADER + row("P0")).replace("\t", ","), r"samples\.tsv:1: missing column 'patient' .*tab-separated"),
        ("", r"samples\.tsv:1: missing column"),
        (HEADER, "no patients below the header"),
    ],
)
def test_read_samples__refuses_in_one_line(sheet, content, said) -> None:
    with pytest.raises(FedcallError, match=said) as caught:
        read_samples(sheet(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "study: é\n".encode("latin-1"),
        "study: s.yaml\n".encode("utf-16"),
        b"study: 2024-13-45\n",
        b"\x00",
        b"- a\n",
        b"study: [\n",
        b"? {a: b}\n: c\n",
        b"1: 2\n",
        b"\x07",
        b"!!python/object:os.system {}\n",
        b"study: &a [*a]\n",
    ],
)
def test_read_config__odd_bytes_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(FedcallError, match=r"config\.yaml") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_read_config__a_byte_order_mark_and_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfstudy: s.yaml\r\nsamples: t.tsv\r\nreference: r.fa\r\n")
    assert read_config(path).study == Path("s.yaml")


@pytest.mark.parametrize("other", ["copied.bam", "./first.bam", "linked.bam"])
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_check_rows__one_file_of_reads_is_one_person(tmp_path: Path, other: str, split: str) -> None:
    (tmp_path / "first.bam").write_bytes(b"reads")
    (tmp_path / "linked.bam").symlink_to("first.bam")
    (tmp_path / "copied.bam").hardlink_to(tmp_path / "first.bam")
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(HEADER + "P0\tnorth\tfirst.bam\t\t\ttrain\t\n" + f"P1\tnorth\t{other}\t\t\t{split}\t\n")
    with pytest.raises(FedcallError, match=r"samples\.tsv:3: patients 'P0' and 'P1' have the same reads"):
        check_rows(sheet, read_samples(sheet))
