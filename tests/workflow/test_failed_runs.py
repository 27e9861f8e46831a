"""What a person reads when a run fails: the one line that says what to do, without opening any file."""

import csv
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest
import yaml

from rehearsal_workspace import STUDY, Workspace

COHORT = (
    "--site",
    "north=3",
    "--site",
    "south=3",
    "--holdout",
    0,
    "--public",
    0,
    "--region-length",
    1000,
    "--depth",
    8,
)


@pytest.fixture
def hospital(tmp_path: Path) -> Workspace:
    """A folder with the files of six patients, their sheet and a configuration."""
    workspace = Workspace(tmp_path)
    workspace.fedcall("simulate", *COHORT, "--output", "data")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/study.yaml").write_text(yaml.safe_dump(STUDY))
    run = {"study": "config/study.yaml", "samples": "data/samples.tsv", "reference": "data/reference.fa"}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(run))
    return workspace


def rewrite_header(alignments: Path, change: Callable[[dict], None]) -> None:
    """Rewrite a BAM and its index with another header."""
    with pysam.AlignmentFile(str(alignments)) as reads:
        header = reads.header.to_dict()
        change(header["SQ"][0])
        other = alignments.with_suffix(".other.bam")
        with pysam.AlignmentFile(str(other), "wb", header=header) as target:
            for read in reads:
                target.write(read)
    other.rename(alignments)
    pysam.index(str(alignments))


def rewrite_truth(truth: Path, change: Callable[[str], str]) -> None:
    """Rewrite a truth set and its index after a change of its text."""
    with pysam.VariantFile(str(truth)) as source:
        text = str(source.header) + "".join(str(record) for record in source)
    plain = truth.with_suffix("")
    plain.write_text(change(text))
    Path(f"{truth}.tbi").unlink()
    truth.unlink()
    pysam.tabix_index(str(plain), preset="vcf")


def other_reference_allele(text: str) -> str:
    lines = text.splitlines()
    fields = lines[-1].split("\t")
    fields[3], fields[4] = ("G", "T") if fields[3][0] != "G" else ("A", "T")
    return "\n".join([*lines[:-1], "\t".join(fields), ""])


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "north-001.bam": (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "truncated"),
    "north-002.bam": (lambda file: rewrite_header(file, lambda contig: contig.update(SN="chrOther")), "chrOther"),
    "north-003.bam": (
        lambda file: rewrite_header(file, lambda contig: contig.update(LN=contig["LN"] + 7)),
        "1007 bases, but 1000",
    ),
    "south-001.truth.vcf.gz": (
        lambda file: rewrite_truth(file, other_reference_allele),
        "REF is",
    ),
    "south-002.truth.vcf.gz": (
        lambda file: rewrite_truth(file, lambda text: text.replace("sim1", "chrOther")),
        "chrOther",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_failed_run__a_bad_file_is_named_with_what_to_do_before_any_job(hospital, name):
    spoil, words = BAD_FILES[name]
    spoil(hospital.path / "data" / name)
    result = hospital.snakemake()
    assert result.returncode == 2
    said = [line for line in result.stdout.splitlines() if line.startswith("fedcall: ")]
    assert len(said) == 1, result.stdout
    assert name in said[0]
    assert words in said[0]
    assert "Traceback" not in result.stdout
    assert not (hospital.path / "results").exists()


def unknown_key(folder: Path) -> None:
    (folder / "config/config.yaml").open("a").write("thread: 4\n")


def delta_too_large(folder: Path) -> None:
    study = STUDY | {"privacy": STUDY["privacy"] | {"delta": 0.5}}
    (folder / "config/study.yaml").write_text(yaml.safe_dump(study))


def epsilon_out_of_range(folder: Path) -> None:
    study = STUDY | {"privacy": STUDY["privacy"] | {"max_epsilon": -1}}
    (folder / "config/study.yaml").write_text(yaml.safe_dump(study))


def no_index(folder: Path) -> None:
    (folder / "data/north-001.bam.bai").unlink()


def same_patient_twice(folder: Path) -> None:
    sheet = folder / "data/samples.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([*lines, lines[1]]) + "\n")


def unknown_site(folder: Path) -> None:
    sheet = folder / "data/samples.tsv"
    rows = list(csv.DictReader(sheet.open(), delimiter="\t"))
    rows[0] |= {"site": "elsewhere", "split": "holdout"}
    with sheet.open("w") as target:
        writer = csv.DictWriter(target, rows[0].keys(), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unknown_key, "config.yaml:4: unknown key 'thread'"),
        (delta_too_large, "privacy.delta"),
        (epsilon_out_of_range, "privacy.max_epsilon"),
        (no_index, "north-001.bam: no index beside it"),
        (same_patient_twice, "is already in line 2"),
        (unknown_site, "unknown site 'elsewhere'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_failed_run__mistakes_in_what_people_write_stop_it_before_any_job(hospital, spoil, words):
    spoil(hospital.path)
    result = hospital.snakemake("--quiet", "all")
    assert result.returncode == 2
    said = [line for line in result.stdout.splitlines() if line.startswith("fedcall: ")]
    assert len(said) == 1, result.stdout
    assert words in said[0]
    assert "Traceback" not in result.stdout
    assert not (hospital.path / "results").exists()


def test_run__without_a_configuration_says_so_in_one_line(tmp_path: Path) -> None:
    result = Workspace(tmp_path).snakemake("--dry-run")
    assert result.returncode == 2, result.stdout
    said = [line for line in result.stdout.splitlines() if line.startswith("fedcall: ")]
    assert len(said) == 1, result.stdout
    assert "give one with --configfile" in said[0]
    assert "Traceback" not in result.stdout
