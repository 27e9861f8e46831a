"""fedcall as a module of another workflow, which makes the alignments."""

import csv
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from forked import run_forked
from rehearsal_workspace import COHORT, ROOT, STUDY, Workspace

README = ROOT / "config/README.md"


@pytest.fixture
def hospital(tmp_path: Path) -> Workspace:
    """A folder with reads, and the Snakefile that config/README.md shows."""
    workspace = Workspace(tmp_path)
    sites = [option for site, count in COHORT["sites"].items() for option in ("--site", f"{site}={count}")]
    size = ("--region-length", COHORT["region_length"], "--depth", COHORT["depth"], "--holdout", 0, "--public", 0)
    workspace.fedcall("simulate", *sites, *size, "--output", "reads")
    with (tmp_path / "reads/samples.tsv").open() as source, (tmp_path / "patients.tsv").open("w") as sheet:
        rows = list(csv.DictReader(source, delimiter="\t"))
        writer = csv.DictWriter(sheet, rows[0].keys(), delimiter="\t")
        writer.writeheader()
        for row in rows:
            beside = {key: f"reads/{row[key]}" for key in ("truth", "regions")}
            writer.writerow(row | beside | {"alignments": f"mapped/{row['patient']}.bam"})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    run = {"study": "study.yaml", "samples": "patients.tsv", "reference": "reads/reference.fa"}
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump({"fedcall": run}))
    snippet = re.search(r"```python\n(configfile: \"hospital\.yaml\".*?)```", README.read_text(), flags=re.DOTALL)
    assert snippet is not None
    (tmp_path / "Snakefile").write_text(snippet[1].replace("/path/to/fedcall", str(ROOT)))
    samtools = tmp_path / "bin/samtools"  # pysam's, under the name that the hospital's rule calls
    samtools.parent.mkdir()
    samtools.write_text(f"#!{sys.executable}\nimport sys, pysam\ngetattr(pysam, sys.argv[1])(*sys.argv[2:])\n")
    samtools.chmod(0o755)
    return workspace


def snakemake(workspace: Workspace, *options: object) -> str:
    path = os.pathsep.join([str(workspace.path / "bin"), os.environ["PATH"]])
    result = run_forked(
        *("snakemake", "--cores", "2", *options), cwd=workspace.path, env=os.environ | {"PATH": path}, together=True
    )
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


def test_module__plans_the_study_behind_the_hospitals_own_rules(hospital):
    plan = snakemake(hospital, "--dry-run", "--quiet", "rules", "reason")
    jobs = dict(re.findall(r"^(\w+)\s+(\d+)\s*$", plan.split("Job stats:")[1], flags=re.MULTILINE))
    assert jobs["map_reads"] == jobs["fedcall_prepare_training_patient"] == "6"
    assert jobs["fedcall_train_round"] == "2"
    assert jobs["fedcall_privacy_report"] == "1"  # of both sites together, as their trainings of a round


def test_module__reads_what_the_hospitals_rule_made(hospital):
    target = "results/tiny/north/examples/north-001.safetensors"
    snakemake(hospital, "--", target)
    assert (hospital.path / target).is_file()
    assert (hospital.path / "mapped/north-001.bam").is_file()
    assert not (hospital.path / "mapped/north-002.bam").exists()
