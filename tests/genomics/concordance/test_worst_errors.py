"""The worst errors of calls, and their pictures."""

import re
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import compare
from fedcall.genomics.concordance.worst_errors import CallError, WorstErrors, read_worst_errors, worst_errors
from fedcall.reporting.evaluation.pileup_drawing import draw_pileup
from tiny_alignments import Read, write_alignments, write_reference, write_truth

REFERENCE = "ACGTTGCAAGCTTACGGATCCATGCATTAGCCTAGGTTCAACGATCGGATTACAGGCTTAACGT" * 3
CONTIGS = {"chr1": len(REFERENCE)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Truth has a SNP (missed), a homozygous SNP (called with one copy) and nothing where a call is."""
    reference = write_reference(tmp_path, {"chr1": REFERENCE})
    regions = tmp_path / "regions.bed"
    regions.write_text(f"chr1\t0\t{len(REFERENCE)}\n")
    missed, copies, false = 60, 80, 110
    truth = write_truth(
        tmp_path,
        CONTIGS,
        [(missed, REFERENCE[missed], other(missed), (0, 1)), (copies, REFERENCE[copies], other(copies), (1, 1))],
    )
    calls = write_calls(tmp_path, [(copies, (0, 1), 12), (false, (0, 1), 40)])
    reads = [Read(40, "60M", mutated(40, 60, {missed, copies})) for _ in range(3)]
    reads += [Read(40, "30M2D30M", REFERENCE[40:70] + mutated(72, 30, {copies}), flag=16)]
    reads += [Read(100, "10M3I20M5S", REFERENCE[100:110] + "TTT" + REFERENCE[110:130] + "AAAAA", qualities=10)]
    reads += [Read(100, "30M", REFERENCE[100:130], flag=0x400)]  # a duplicate, not looked at
    return {
        "truth": truth,
        "calls": calls,
        "alignments": write_alignments(tmp_path, CONTIGS, reads),
        "regions": regions,
        "reference": reference,
    }


def other(position: int) -> str:
    return {"A": "C", "C": "A", "G": "T", "T": "G"}[REFERENCE[position]]


def mutated(start: int, length: int, positions: set[int]) -> str:
    return "".join(other(at) if at in positions else REFERENCE[at] for at in range(start, start + length))


def write_calls(folder: Path, records: list[tuple[int, tuple[int, int], int]]) -> Path:
    path = folder / "calls.vcf"
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=chr1,length={len(REFERENCE)}>"]
    lines += [
        f'##FORMAT=<ID={key},Number=1,Type={kind},Description="x">'
        for key, kind in (("GT", "String"), ("GQ", "Integer"))
    ]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp")
    lines += [
        f"chr1\t{at + 1}\t.\t{REFERENCE[at]}\t{other(at)}\t50\tPASS\t.\tGT:GQ\t{one}/{two}:{quality}"
        for at, (one, two), quality in records
    ]
    path.write_text("\n".join(lines) + "\n")
    pysam.tabix_index(str(path), preset="vcf", force=True)
    return Path(f"{path}.gz")


def test_worst_errors__each_wrong_allele_once_and_the_worst_first(files: dict[str, Path]) -> None:
    found = worst_errors(**files)
    assert [(error.position, error.kind, error.true_copies, error.called_copies) for error in found.errors] == [
        (111, "false call", 0, 1),
        (81, "wrong copies", 2, 1),
        (61, "missed", 1, 0),
    ]
    assert [error.severity for error in found.errors] == [40.0, 12.0, 9.0]
    assert [(error.supporting, error.depth) for error in found.errors] == [(0, 1), (4, 4), (3, 4)]


def test_worst_errors__are_what_concordance_counts(files: dict[str, Path]) -> None:
    counted = compare(files["truth"], files["calls"], files["regions"], files["reference"])
    tally = counted.all.tally
    assert worst_errors(**files).errors_in_all == (tally.calls - tally.tp_calls) + (tally.truth - tally.allele_tp)


def test_worst_errors__keeps_the_worst_and_tells_how_many_there_were(files: dict[str, Path]) -> None:
    found = worst_errors(**files, limit=1)
    assert (found.errors_in_all, len(found.errors), found.errors[0].position) == (3, 1, 111)


def test_worst_errors__rows_are_what_the_reads_say(files: dict[str, Path]) -> None:
    missed = worst_errors(**files).errors[2]
    assert missed.start == 41
    assert missed.reference == REFERENCE[40:81]
    assert missed.reads[0].bases == mutated(40, 41, {60, 80})
    deleted = missed.reads[3]
    assert deleted.reverse
    assert deleted.bases == REFERENCE[40:70] + "**" + mutated(72, 9, {80})
    low = worst_errors(**files).errors[0].reads[0]
    assert low.bases == " " * 10 + REFERENCE[100:130].lower() + " "
    assert [(insertion.column, insertion.bases) for insertion in low.insertions] == [(19, "TTT")]


def test_worst_errors__survive_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    found = worst_errors(**files)
    path = tmp_path / "errors.json"
    path.write_text(found.model_dump_json())
    assert read_worst_errors(path) == found
    path.write_text(found.model_dump_json()[:-20])
    with pytest.raises(FedcallError, match=re.escape(str(path))):
        read_worst_errors(path)


def test_draw_pileup__shows_every_difference_as_a_letter(files: dict[str, Path]) -> None:
    missed = worst_errors(**files).errors[2]
    drawing = draw_pileup(missed)
    rows = re.findall(r'class="read"[^>]*>([^<]*)<', drawing)
    assert rows[0] == "." * 20 + other(60) + "." * 19 + other(80)
    assert rows[3] == "," * 30 + "**" + "," * 8 + other(80).lower()
    assert 'role="img"' in drawing
    assert "4 reads at chr1:61" in drawing


def test_draw_pileup__escapes_what_a_file_brings() -> None:
    hostile = CallError(
        contig="<script>", position=1, ref="A", alt="C", kind="missed", true_copies=1, called_copies=0,
        genotype_quality=None, severity=0, depth=0, supporting=0, start=1, reference="A", reads=(),
    )  # fmt: skip
    assert "<script>" not in draw_pileup(hostile)
    assert WorstErrors(errors_in_all=0, errors=()).errors == ()
