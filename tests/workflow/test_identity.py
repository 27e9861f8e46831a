"""Point 2 of the promise at the command line and in the workflow: one human being is not two people."""

import json
import subprocess
from pathlib import Path

import pysam
import pytest
import yaml

from fedcall.privacy.accounting.epsilon import group_epsilon, round_event
from fedcall.workflow.identity import (
    REGISTRY,
    KnownFamily,
    compare_run,
    forget_person,
    known_families,
    read_registry,
    remember_people,
)
from fedcall.workflow.run import load_run
from forked import run_forked
from rehearsal_workspace import BIN, STUDY

ROW = "{name}\tnorth\t{bam}\t\t\t{split}\tno\t{distinct}\n"
HEADER = "patient\tsite\talignments\ttruth\tregions\tsplit\tprivate\tdistinct_from\n"


@pytest.fixture
def hospital(tmp_path: Path, shared_data: Path) -> Path:
    """Return a folder with a study and two real people, one of whom comes again with half of the reads."""
    ceu = shared_data / "ceu_1000g"
    for name in ("NA12043", "NA12489", "NA12273"):
        (tmp_path / f"{name}.bam").symlink_to(ceu / f"{name}.bam")
        (tmp_path / f"{name}.bam.bai").symlink_to(ceu / f"{name}.bam.bai")
    half = tmp_path / "half.bam"
    pysam.view("-b", "-s", "7.5", "-o", str(half), str(ceu / "NA12043.bam"), catch_stdout=False)
    pysam.index(str(half))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    config = {"study": "study.yaml", "samples": "samples.tsv", "reference": str(ceu / "reference.fa.gz")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def sheet(folder: Path, *rows: tuple[str, str, str, str]) -> None:
    lines = [ROW.format(name=name, bam=bam, split=split, distinct=distinct) for name, bam, split, distinct in rows]
    (folder / "samples.tsv").write_text(HEADER + "".join(lines))


def fedcall(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments, cwd=folder)


def compare(folder: Path) -> subprocess.CompletedProcess[str]:
    return fedcall(
        folder, "compare-people", "--configuration", "config.yaml", "--site", "north", "--output", "compared.txt"
    )


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_point_2__check_refuses_one_human_being_under_two_names(hospital: Path, split: str) -> None:
    sheet(
        hospital,
        ("p1", "NA12043.bam", "train", ""),
        ("p2", "half.bam", split, ""),
        ("p3", "NA12489.bam", "train", ""),
    )
    result = fedcall(hospital, "check", "config.yaml")
    assert result.returncode == 3, result.stderr
    assert result.stderr.count("\n") == 1
    assert "'p1' and 'p2' are one human being" in result.stderr
    assert compare(hospital).returncode == 3
    assert not (hospital / "compared.txt").exists()
    # Who was refused is not remembered: the sheet can be mended.
    assert read_registry(hospital / "private/north/sketches").people == ()


def test_point_2__a_person_of_an_earlier_study_is_known_again(hospital: Path) -> None:
    sheet(hospital, ("p1", "NA12043.bam", "train", ""), ("p3", "NA12489.bam", "train", ""))
    assert compare(hospital).returncode == 0
    (hospital / "study.yaml").write_text(yaml.safe_dump({**STUDY, "name": "later"}))
    sheet(hospital, ("new", "half.bam", "train", ""), ("p4", "NA12273.bam", "train", ""))
    result = fedcall(hospital, "check", "config.yaml")
    assert result.returncode == 3, result.stderr
    assert "'new' and 'p1' of study 'tiny' are one human being" in result.stderr
    sheet(hospital, ("p1", "half.bam", "train", ""), ("p4", "NA12273.bam", "train", ""))
    assert fedcall(hospital, "check", "config.yaml").returncode == 0


def test_point_2__a_statement_overrules_a_match_and_is_recorded(hospital: Path) -> None:
    rows = [("p1", "NA12043.bam", "train", "p2"), ("p2", "half.bam", "train", "")]
    sheet(hospital, *rows)
    result = compare(hospital)
    assert result.returncode == 0, result.stderr
    folder = hospital / "private/north/sketches"
    (statement,) = read_registry(folder).statements
    assert statement.people == ("p1", "p2")
    assert (folder / "people.json").stat().st_mode & 0o777 == 0o600
    # Recorded, it holds for later sheets, too.
    sheet(hospital, ("p1", "NA12043.bam", "train", ""), ("p2", "half.bam", "train", ""))
    assert fedcall(hospital, "check", "config.yaml").returncode == 0


def test_point_2__nothing_about_people_is_outside_of_private(hospital: Path) -> None:
    sheet(hospital, ("p1", "NA12043.bam", "train", ""), ("p3", "NA12489.bam", "train", ""))
    before = set(hospital.rglob("*"))
    result = compare(hospital)
    made = {path.relative_to(hospital).parts[0] for path in set(hospital.rglob("*")) - before}
    assert made == {"private", "compared.txt"}
    assert (hospital / "compared.txt").read_text() == "Nobody is given twice.\n"
    assert result.stdout == "site north: nobody is given twice\n"


def test_point_2__a_family_costs_what_accounting_says_of_a_group(hospital: Path, monkeypatch) -> None:
    """Relatives need more bases than there are here; who is related is put in, what it costs is computed."""
    from fedcall.genomics.identity import comparison

    sheet(hospital, ("p1", "NA12043.bam", "train", ""), ("p3", "NA12489.bam", "train", ""))
    monkeypatch.setattr(comparison, "RELATED_AT", -1e9)
    monkeypatch.chdir(hospital)
    run = load_run(Path("config.yaml"))
    found = compare_run(run)
    assert found is not None
    (family,) = found.families
    terms = run.study.privacy
    assert family.people == ("p1", "p3")
    assert family.joint == group_epsilon([(round_event(terms), run.study.rounds)], terms.delta, 2)
    assert family.joint.pld > 1.5 * family.alone.pld
    assert any("epsilon" in line and "together" in line for line in found.lines())
    remember_people(run, found, "north")  # for the site's own privacy report
    assert known_families(Path("private/north/sketches"), run.study.name) == (("p1", "p3"),)
    sketches = Path("private/north/sketches")
    assert known_families(sketches, "another") == ()
    registry = read_registry(sketches)
    others = KnownFamily(people=("p7", "p8", "p9"), study="another")
    known = registry.model_copy(update={"families": (*registry.families, others)})
    (sketches / REGISTRY).write_text(known.model_dump_json())
    forget_person(sketches, "p3")
    assert read_registry(sketches).families == (others,), "others' families stay known"
    forget_person(sketches, "p9")
    assert known_families(sketches, "another") == (("p7", "p8"),)


def test_point_2__the_workflow_compares_people_before_it_trains(workspace) -> None:
    result = workspace.snakemake("--dry-run", "--printshellcmds", "results/tiny/north/rounds/1/update.safetensors")
    assert result.returncode == 0, result.stdout[-3000:]
    assert "fedcall compare-people" in result.stdout
    commands = [line for line in result.stdout.splitlines() if "fedcall compare-people" in line]
    texts = [command.split("--configuration ")[1].split(" --site")[0].strip("'") for command in commands]
    # One job of a rehearsal compares the people of each site among themselves: fedcall fills in the sites.
    assert [json.loads(text)["sketches"] for text in texts] == ["private/{site}/sketches"]
    assert "--site north --site south" in commands[0]
    assert (BIN / "fedcall").exists()
