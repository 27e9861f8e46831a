"""What `fedcall check` sees in the files themselves, before any job (docs/your-own-data.md)."""

import shutil
from pathlib import Path

import pysam
import pytest

from fedcall.errors import FedcallError
from fedcall.workflow.input_files import check_input_files
from fedcall.workflow.run import jobs_per_patient, load_run
from tiny_alignments import Read, write_alignments, write_reference

BASES = "ACGTTGCA" * 50
COLUMNS = ("patient", "site", "alignments", "truth", "regions", "split", "sample", "haploid", "private")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Check a run of two patients, of whom cells of the first are changed."""
    monkeypatch.chdir(tmp_path)
    write_reference(tmp_path, {"c": BASES})
    for name in ("P0", "P1"):
        write_alignments(tmp_path, {"c": 400}, [Read(10, "8M", "GTTGCAAC")], f"{name}.bam")
        truth(tmp_path / f"{name}.vcf", name)
    (tmp_path / "r.bed").write_text("c\t0\t400\n")
    (tmp_path / "study.yaml").write_text("name: trial\nprivacy: {delta: 0.01}\n")
    (tmp_path / "config.yaml").write_text("study: study.yaml\nsamples: s.tsv\nreference: reference.fa\n")

    def run(**cells: str) -> list[str]:
        rows = [[name, "north", f"{name}.bam", f"{name}.vcf", "r.bed", "train", "", "", "no"] for name in ("P0", "P1")]
        for column, cell in cells.items():
            rows[0][COLUMNS.index(column)] = cell
        (tmp_path / "s.tsv").write_text("".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)))
        loaded = load_run(tmp_path / "config.yaml")
        warnings = check_input_files(loaded)
        jobs_per_patient(loaded)
        return warnings

    return run


def truth(path: Path, sample: str, length: int = 400, ref: str = "T", contig: str = "c") -> None:
    columns = f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{sample}"
    record = f"{contig}\t5\t.\t{ref}\tC\t.\tPASS\t.\tGT\t0/1"
    path.write_text(f"##fileformat=VCFv4.2\n##contig=<ID={contig},length={length}>\n{columns}\n{record}\n")


def test_check_input_files__nothing_wrong(check) -> None:
    check()


def test_check_input_files__reads_that_bear_the_name_of_another_patient(check, tmp_path: Path) -> None:
    names = {"own.bam": "P0", "lab.bam": "L77", "swapped.bam": "P1"}
    for file, name in names.items():
        header = {"HD": {"SO": "coordinate"}, "SQ": [{"SN": "c", "LN": 400}], "RG": [{"ID": "1", "SM": name}]}
        with pysam.AlignmentFile(str(tmp_path / file), "wb", header=header):
            pass
        pysam.index(str(tmp_path / file))
    said = {file: check(alignments=file) for file in names}
    assert [file for file, lines in said.items() if lines] == ["swapped.bam"]
    assert "patient 'P0' are named 'P1' in their read groups" in said["swapped.bam"][0]


def test_check_input_files__a_csi_under_either_name(check, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "P0.bam", tmp_path / "Q.bam")
    pysam.index("-c", "-o", str(tmp_path / "Q.csi"), str(tmp_path / "Q.bam"))
    check(alignments="Q.bam")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alignments": "cut.bam"}, r"cut\.bam: truncated"),
        ({"alignments": "text.bam"}, r"text\.bam: not a readable BAM or CRAM"),
        ({"alignments": "other.bam"}, r"other\.bam: contig 'c' has 399 bases, but 400 in"),
        ({"truth": "P1.vcf"}, r"P1\.vcf: no sample 'P0' \(found P1\)"),
        ({"truth": "long.vcf"}, r"long\.vcf: contig 'c' has 401 bases, but 400 in"),
        ({"truth": "ref.vcf"}, r"ref\.vcf: c:5: REF is G, but .*has T there"),
        ({"truth": "names.vcf"}, r"names\.vcf: no contig 'c' \(found chrC\)"),
        ({"truth": "r.bed"}, r"r\.bed: not a VCF file"),
        ({"regions": "bad.bed"}, r"bad\.bed:2: contig 'd' is not in"),
        ({"regions": "P1.vcf"}, r"P1\.vcf: no sample 'P0'"),
        ({"haploid": "bad.bed"}, r"bad\.bed:2: contig 'd' is not in"),
    ],
)
def test_check_input_files__one_line_that_names_file_and_patient(check, tmp_path: Path, change, said) -> None:
    (tmp_path / "cut.bam").write_bytes((tmp_path / "P0.bam").read_bytes()[:60])
    (tmp_path / "text.bam").write_text("hello\n")
    for name in ("cut.bam", "text.bam"):
        shutil.copy(tmp_path / "P0.bam.bai", tmp_path / f"{name}.bai")
    write_alignments(tmp_path, {"c": 399}, [Read(10, "8M", "GTTGCAAC")], "other.bam")
    truth(tmp_path / "long.vcf", "P0", length=401)
    truth(tmp_path / "ref.vcf", "P0", ref="G")
    truth(tmp_path / "names.vcf", "P0", contig="chrC")
    (tmp_path / "bad.bed").write_text("c\t0\t9\nd\t0\t9\n")
    with pytest.raises(FedcallError, match=said) as caught:
        check(**change)
    assert "\n" not in str(caught.value)
    assert "(patient 'P0')" in str(caught.value)
