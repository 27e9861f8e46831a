"""Bad configurations, sheets and studies, through the shell: exit 2 and one line that says where and what."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pysam
import pytest
import yaml

from fedcall.documents import write_signed
from fedcall.keys import create_keys, read_signing_key
from fedcall.study.terms import ModelTerms, Site, Study
from forked import run_forked
from tiny_alignments import Read, write_alignments, write_reference

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
RELATIVE = "(relative paths in a configuration start at the working directory)"
HEADER = ["patient", "site", "alignments", "truth", "regions", "split", "private"]


def rows(patients: int = 3) -> list[list[str]]:
    """Return a sheet of two sites with `patients` training patients and one held out each."""
    return [
        [
            f"{site}{index}",
            site,
            f"{site}{index}.bam",
            "truth.vcf.gz",
            "regions.bed",
            "train" if index else "holdout",
            "no",
        ]
        for site in ("north", "south")
        for index in range(patients + 1)
    ]


PEOPLE = [f"{site}{index}" for site in ("north", "south") for index in range(4)] + ["p1", "x1"]


def write_files(path: Path) -> None:
    """Write a genome, reads, regions and a truth with a column for everybody, so small that it is made in a moment."""
    write_reference(path, {"c": "ACGTTGCA" * 50})
    for suffix in ("", ".fai"):
        (path / f"reference.fa{suffix}").rename(path / f"genome.fa{suffix}")
    reads = write_alignments(path, {"c": 400}, [Read(10, "8M", "GTTGCAAC")])
    for name in (f"{site}{index}.bam" for site in ("north", "south") for index in range(12)):
        shutil.copy(reads, path / name)
        shutil.copy(f"{reads}.bai", path / f"{name}.bai")
    (path / "regions.bed").write_text("c\t0\t400\n")
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *PEOPLE])
    genotypes = "\t".join(["0/1"] * len(PEOPLE))
    record = f"c\t5\t.\tT\tC\t.\tPASS\t.\tGT\t{genotypes}"
    with pysam.BGZFile(str(path / "truth.vcf.gz"), "w") as handle:
        lines = ["##fileformat=VCFv4.2", "##contig=<ID=c,length=400>", columns, record]
        handle.write("".join(line + "\n" for line in lines).encode())


class Folder:
    """A working directory with a valid configuration, to be broken in one place."""

    def __init__(self, path: Path):
        self.path = path
        write_files(path)
        self.sheet(rows())
        self.yaml("study.yaml", {"name": "trial", "privacy": {"delta": 0.01}})
        self.yaml("config.yaml", {"study": "study.yaml", "samples": "samples.tsv", "reference": "genome.fa"})

    def sheet(self, table: list[list[str]], name: str = "samples.tsv", header: list[str] | None = None) -> None:
        for row in table:
            if row[2] != "gone.bam":
                (self.path / row[2]).touch()
                (self.path / f"{row[2]}.bai").touch()
        lines = ["\t".join(row) for row in [header or HEADER, *table]]
        (self.path / name).write_text("\n".join(lines) + "\n")

    def yaml(self, name: str, content: dict) -> None:
        (self.path / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def change(self, name: str, **changes: object) -> None:
        content = yaml.safe_load((self.path / name).read_text())
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(content.get(key), dict):
                content[key] |= value
            else:
                content[key] = value
        self.yaml(name, content)

    def run(self, program: Literal["fedcall", "snakemake"], *arguments: object) -> subprocess.CompletedProcess[str]:
        return run_forked(program, *arguments, cwd=self.path)

    def check(self) -> subprocess.CompletedProcess[str]:
        return self.run("fedcall", "check", "config.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def assert_refused(result: subprocess.CompletedProcess[str], *fragments: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("fedcall: ")
    for fragment in fragments:
        assert fragment in lines[0]


def test_check__valid_configuration(folder):
    result = folder.run("fedcall", "check", "config.yaml", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["sites"] == [
        {"site": "north", "train": 3, "holdout": 1},
        {"site": "south", "train": 3, "holdout": 1},
    ]


def test_check__patient_in_two_rows(folder):
    folder.sheet([*rows(), rows()[1]])
    assert_refused(folder.check(), "samples.tsv:10", "'north1'", "line 3")


def test_check__patient_in_two_sheets(folder):
    folder.sheet([[*rows()[1][:5], "public", "no"]], "public.tsv")
    folder.change("config.yaml", public_samples="public.tsv")
    assert_refused(folder.check(), "public.tsv", "'north1'")


def test_check__training_row_in_public_sheet(folder):
    folder.sheet([["p1", *rows()[1][1:]]], "public.tsv")
    folder.change("config.yaml", public_samples="public.tsv")
    assert_refused(folder.check(), "public.tsv", "'p1'", "'public' or 'holdout'")


def test_check__unknown_site_of_a_held_out_patient(folder):
    folder.sheet([*rows(), ["x1", "atlantis", "reads.bam", "truth.vcf.gz", "regions.bed", "holdout", "no"]])
    assert_refused(folder.check(), "'x1'", "unknown site 'atlantis'", "north, south")


@pytest.mark.parametrize("name", ["public", "aggregator", "coordinator"])
def test_check__reserved_site_name(folder, name):
    folder.sheet([*rows(), ["x1", name, "reads.bam", "", "", "train", "no"]])
    assert_refused(folder.check(), "'x1'", f"'{name}'")


def test_check__unknown_split(folder):
    folder.sheet([*rows(), ["x1", "north", "reads.bam", "", "", "test", "no"]])
    assert_refused(folder.check(), "samples.tsv:10", "split", "'test'", "'holdout'")


@pytest.mark.parametrize(
    ("platform", "words"), [("ONT", "long reads; "), ("PACBIO", "long reads; "), ("HiSeq", "'WGS' or 'WES'")]
)
def test_check__platform_of_the_sheet(folder, platform, words):
    table = [[*row, "WES"] for row in rows()]
    table[2][-1] = platform
    folder.sheet(table, header=[*HEADER, "platform"])
    assert_refused(folder.check(), "samples.tsv:4", "platform", words, platform)


def test_check__missing_column(folder):
    folder.sheet([row[:5] for row in rows()], header=HEADER[:5])
    assert_refused(folder.check(), "samples.tsv:1", "'split'")


def test_check__unknown_column(folder):
    folder.sheet([[*row, "f"] for row in rows()], header=[*HEADER, "sex"])
    assert_refused(folder.check(), "samples.tsv:2", "unknown key 'sex'")


def test_check__missing_alignments(folder):
    folder.sheet([*rows(), ["x1", "north", "gone.bam", "", "", "train", "no"]])
    assert_refused(folder.check(), "samples.tsv:10", "gone.bam")


def test_check__alignments_without_index(folder):
    (folder.path / "north0.bam.bai").unlink()
    assert_refused(folder.check(), "north0.bam", "samtools index")


def test_check__reference_without_index(folder):
    (folder.path / "genome.fa.fai").unlink()
    assert_refused(folder.check(), "genome.fa", "samtools faidx")


def test_check__scored_patient_without_regions(folder):
    folder.sheet([*rows(), ["x1", "north", "reads.bam", "truth.vcf.gz", "", "holdout", "no"]])
    assert_refused(folder.check(), "'x1'", "regions")


def test_check__no_training_patient(folder):
    folder.sheet([row for row in rows() if row[5] == "holdout"])
    assert_refused(folder.check(), "samples.tsv", "'train'")


@pytest.mark.parametrize(
    ("file", "change", "fragments"),
    [
        ("config.yaml", {"sampels": "x.tsv"}, ["config.yaml:4", "unknown key 'sampels'"]),
        ("config.yaml", {"study": "gone.yaml"}, ["config.yaml:1", "gone.yaml", RELATIVE]),
        ("config.yaml", {"samples": None}, ["config.yaml", "exactly one of 'samples'"]),
        ("config.yaml", {"reference": "gone.fa"}, ["config.yaml:3", "gone.fa", RELATIVE]),
        ("config.yaml", {"panel": "gone.vcf.gz"}, ["config.yaml:4", "panel: no such file: gone.vcf.gz", RELATIVE]),
        ("config.yaml", {"panel": "truth.vcf.gz"}, ["truth.vcf.gz: no index", "tabix -p vcf truth.vcf.gz"]),
        ("config.yaml", {"site": "north"}, ["config.yaml", "aggregator, ca, approved_study"]),
        ("study.yaml", {"privacy": {"sigma": 1}}, ["study.yaml:4", "unknown key 'privacy.sigma'"]),
        ("study.yaml", {"rounds": 0}, ["study.yaml:4", "rounds", "found 0"]),
        ("study.yaml", {"privacy": {"max_epsilon": -1.0}}, ["study.yaml:4", "max_epsilon", "found -1.0"]),
        ("study.yaml", {"privacy": {"max_epsilon": float("inf")}}, ["study.yaml:4", "max_epsilon"]),
        ("study.yaml", {"privacy": {"delta": 1.5}}, ["study.yaml:3", "delta", "found 1.5"]),
        ("study.yaml", {"privacy": {"delta": 0.0}}, ["study.yaml:3", "delta", "found 0.0"]),
        ("study.yaml", {"privacy": {"delta": 1 / 3}}, ["study.yaml:3", "3 patients of site 'north'", "at most 0.1"]),
        ("study.yaml", {"privacy": {"noise_multiplier": 0.0}}, ["study.yaml", "max_epsilon: null"]),
        ("study.yaml", {"privacy": {"sampling_rate": 1.2}}, ["study.yaml:4", "sampling_rate", "found 1.2"]),
        ("study.yaml", {"aggregation": {"minimum_sites": 3}}, ["study.yaml:5", "minimum_sites 3", "2 sites"]),
    ],
)
def test_check__yaml(folder, file, change, fragments):
    folder.change(file, **change)
    assert_refused(folder.check(), *fragments)


def test_check__not_yaml(folder):
    (folder.path / "config.yaml").write_text("study: [\n")
    assert_refused(folder.check(), "config.yaml:2", "not YAML")


def test_check__no_such_configuration(folder):
    assert_refused(folder.run("fedcall", "check", "gone.yaml"), "gone.yaml", "no such file")


@pytest.fixture
def site_folder(folder) -> Folder:
    """Return a folder whose configuration takes part, as site north, in a signed study of north and south."""
    sites = []
    for name in ("north", "south"):
        identity = create_keys(folder.path / "private" / name / "keys", name)
        sites.append(Site(name=name, public_key=identity.public_key, node_key=identity.node_key, patients=3))
    coordinator = folder.path / "coordinator"
    study = Study(
        name="trial",
        coordinator=create_keys(coordinator, "coordinator").public_key,
        sites=tuple(sites),
        model=ModelTerms(initial_weights="0" * 64),
    )
    write_signed(folder.path / "study.json", study, read_signing_key(coordinator))
    (folder.path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    folder.change(
        "config.yaml",
        study="study.json",
        site="north",
        aggregator="aggregator.example.org:8443",
        ca="ca.crt",
        approved_study=study.digest,
    )
    return folder


def test_check__site_sees_its_own_patients(site_folder):
    result = site_folder.run("fedcall", "check", "config.yaml", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["sites"] == [{"site": "north", "train": 3, "holdout": 1}]


def test_check__study_that_was_not_approved(site_folder):
    site_folder.change("config.yaml", approved_study="f" * 64)
    assert_refused(site_folder.check(), "config.yaml:7", "f" * 64, "fedcall study check")


def test_check__tampered_study(site_folder):
    path = site_folder.path / "study.json"
    path.write_text(path.read_text().replace('"rounds":4', '"rounds":40'))
    assert_refused(site_folder.check(), "study.json", "signature")


def test_check__site_unknown_to_the_study(site_folder):
    site_folder.change("config.yaml", site="west")
    assert_refused(site_folder.check(), "config.yaml:4", "'west'", "north, south")


def test_check__row_of_a_site_unknown_to_the_study(site_folder):
    site_folder.sheet([*rows(), ["x1", "west", "reads.bam", "", "", "train", "no"]])
    assert_refused(site_folder.check(), "'x1'", "unknown site 'west'")


def test_check__site_without_keys(site_folder):
    site_folder.change("config.yaml", site_key="elsewhere/{site}")
    assert_refused(site_folder.check(), "config.yaml:8", "elsewhere/north", "fedcall site keygen")


def test_snakemake__stops_before_any_job(folder):
    folder.change("study.yaml", privacy={"sigma": 1})
    result = folder.run(
        "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", "config.yaml", "--cores", "1", "--quiet", "all"
    )
    assert result.returncode == 2, result.stderr
    assert "fedcall: study.yaml:4: unknown key 'privacy.sigma'" in result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    assert not (folder.path / "results").exists()


def test_snakemake__without_a_configuration_is_one_line(tmp_path):
    command = ("--snakefile", ROOT / "Snakefile", "--cores", "1", "--quiet", "all")
    result = run_forked("snakemake", *command, cwd=tmp_path)
    assert result.returncode == 2
    ours = [line for line in result.stderr.splitlines() if line.startswith("fedcall: ")]
    assert len(ours) == 1
    assert ours[0].startswith("fedcall: no configuration: give one with --configfile config.yaml (there is no")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) in ([], [tmp_path / ".snakemake"])
