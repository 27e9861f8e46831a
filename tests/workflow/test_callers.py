"""Other callers in the workflow: freebayes itself, and stand-ins for GATK and DeepVariant."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pysam
import pytest
import yaml

from fedcall.callers.agreement import Case, agreement_of
from fedcall.callers.cost import cost_of
from fedcall.genomics.examples import open_examples
from fedcall.genomics.regions import read_regions
from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.workflow.configuration import Config
from forked import run_forked
from rehearsal_workspace import BIN, COHORT, ROOT, STUDY, Workspace
from stand_in_callers import install

PATIENT = "north-h01"
OUTSIDE = ["bcftools", "freebayes", "gatk", "deepvariant"]


def snakemake(workspace: Workspace, path: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow with a PATH of its own."""
    return run_forked(
        *("snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", *options),
        cwd=workspace.path,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | variables,
        together=True,
    )


def choose(workspace: Workspace, callers: list[str]) -> None:
    config = workspace.path / "config/config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"callers": callers}))


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a folder in which the four callers called one held-out patient; nothing was trained."""
    if shutil.which("freebayes") is None:
        pytest.skip("freebayes is not installed here")
    folder = tmp_path_factory.mktemp("callers")
    workspace = Workspace.create(folder / "workspace", COHORT, STUDY)
    choose(workspace, OUTSIDE)
    image = folder / "deepvariant.sif"
    image.write_bytes(b"an image")
    tools = install(folder / "bin")
    targets = [f"results/tiny/north/baselines/{caller}/{PATIENT}.vcf.gz" for caller in OUTSIDE]
    result = snakemake(
        workspace,
        f"{tools}:{os.environ['PATH']}",
        "--quiet",
        "rules",
        "reason",
        "--",
        *targets,
        APPTAINER_CONTAINER=str(image),
    )
    assert result.returncode == 0, result.stdout[-6000:]
    return workspace


@pytest.mark.slow
def test_callers__stand_side_by_side(called: Workspace) -> None:
    cohort = called.path / "resources/cohort"
    reference = cohort / "reference.fa"
    case = Case(cohort / f"{PATIENT}.truth.vcf.gz", reference, read_regions(cohort / "regions.bed", reference))
    calls = {name: called.path / f"results/tiny/north/baselines/{name}/{PATIENT}.vcf.gz" for name in OUTSIDE}
    found = agreement_of(case, calls, cohort / f"{PATIENT}.bam")
    software = {row.caller: row for row in found.callers}
    assert software["gatk"].software == "gatk 4.6.2.0"
    assert software["deepvariant"].software == "deepvariant 1.10.0"
    digest = hashlib.sha256(b"an image").hexdigest()
    assert software["deepvariant"].image == f"docker://google/deepvariant:1.10.0 sha256:{digest}"
    assert re.fullmatch(r"freebayes 1\.\d+\.\d+\S*", software["freebayes"].software or "")
    assert re.fullmatch(r"bcftools \d+\.\d+\S*", software["bcftools"].software or "")
    # The stand-ins call what bcftools calls, so the three agree in everything.
    three = {"bcftools", "gatk", "deepvariant"}
    assert all(not three & set(row.callers) or three <= set(row.callers) for row in found.patterns)
    assert any("freebayes" in row.callers and row.kind == "true variant" for row in found.patterns)
    costs = {name: cost_of(called.path / "benchmarks", "tiny", "north", name, PATIENT) for name in OUTSIDE}
    assert {name: cost.jobs for name, cost in costs.items() if cost} == {
        "bcftools": 1,
        "freebayes": 2,
        "gatk": 2,
        "deepvariant": 2,
    }


@pytest.mark.slow
def test_callers__a_gvcf_that_one_run_kept_is_truth_and_regions_of_the_next_study(called: Workspace) -> None:
    """A second run, of another study, in the same folder: its sheet names the gVCF where the first run left it."""
    kept, cohort = f"results/tiny/north/callers/gatk/{PATIENT}.g.vcf.gz", "resources/cohort"
    columns = ("patient", "site", "alignments", "truth", "regions", "split", "sample", "private")
    row = ("P1", "north", f"{cohort}/{PATIENT}.bam", kept, kept, "train", PATIENT, "no")
    (called.path / "next.tsv").write_text("".join("\t".join(line) + "\n" for line in (columns, row)))
    (called.path / "config/next_study.yaml").write_text(yaml.safe_dump(STUDY | {"name": "next"}))
    config = {"study": "config/next_study.yaml", "samples": "next.tsv", "reference": f"{cohort}/reference.fa"}
    (called.path / "config/next.yaml").write_text(yaml.safe_dump(config))
    before = (called.path / kept).read_bytes()
    target = "results/next/north/examples/P1.safetensors"
    run = snakemake(called, os.environ["PATH"], "--configfile", "config/next.yaml", "--quiet", "rules", "--", target)
    assert run.returncode == 0, run.stdout[-6000:]
    found = open_examples(called.path / target)
    spans = read_regions(called.path / "results/next/north/regions/P1.bed", called.path / cohort / "reference.fa")
    assert sum(end - start for _, start, end in spans) > 1000
    assert all(any(start <= position < end for _, start, end in spans) for position in found.position.tolist())
    truth = read_labels(called.path / cohort / f"{PATIENT}.truth.vcf.gz")
    labelled = {int(found.position[row]) for row in (found.labels > 0).nonzero()[0]}
    assert len(labelled & truth) >= 3
    assert labelled <= read_labels(called.path / kept), "what is labelled is what the caller called, and nothing else"
    assert (called.path / kept).read_bytes() == before


def read_labels(path: Path) -> set[int]:
    """Return the 0-based positions of a file's variants; blocks of a gVCF without any are none."""
    with pysam.VariantFile(str(path)) as source:
        return {record.start for record in source if record.alts and not record.alts[0].startswith("<")}


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["gatk", "deepvariant"])
def test_callers__gvcfs_are_kept_and_calls_come_under_the_patients_name(
    called: Workspace, caller: str, tmp_path: Path
) -> None:
    gvcf = called.path / f"results/tiny/north/callers/{caller}/{PATIENT}.g.vcf.gz"
    reference = called.path / "resources/cohort/reference.fa"
    assert normalise_labels(gvcf, reference, tmp_path / "labels.vcf.gz").kept > 0
    assert write_confident_regions(gvcf, reference, tmp_path / "regions.bed") > 1000
    collected = called.path / f"results/tiny/north/baselines/{caller}/{PATIENT}.vcf.gz"
    with pysam.VariantFile(str(collected)) as calls:
        assert list(calls.header.samples) == [PATIENT]
        assert str(calls.header).count("/somebody/") == 0


@pytest.mark.slow
def test_callers__each_leaves_its_log_and_benchmark(called: Workspace) -> None:
    for caller in OUTSIDE[1:]:
        assert list((called.path / f"logs/call_{caller}").iterdir())
        assert list((called.path / f"benchmarks/call_{caller}").iterdir())


@pytest.mark.slow
def test_rehearsal__with_four_callers_ends_in_one_evaluation(rehearsal: Workspace, tmp_path: Path) -> None:
    """A study that is done gets the callers later: all of them call, nothing is trained again, one report has all."""
    if shutil.which("freebayes") is None:
        pytest.skip("freebayes is not installed here")
    workspace = rehearsal.copy(tmp_path / "workspace")
    choose(workspace, OUTSIDE)
    image = tmp_path / "deepvariant.sif"
    image.write_bytes(b"an image")
    path = f"{install(tmp_path / 'bin')}:{os.environ['PATH']}"
    result = snakemake(workspace, path, "--quiet", "progress", APPTAINER_CONTAINER=str(image))
    assert result.returncode == 0, result.stdout[-6000:]
    assert "rule train_round" not in result.stdout
    report = json.loads((workspace.path / "results/tiny/evaluation.json").read_text())
    names = {"final", "likelihood", "initial", *OUTSIDE}
    assert set(report["callers"]) == names
    assert {row["caller"] for row in report["differences"]} >= set(OUTSIDE)
    assert all(row["f1"]["value"] is not None for row in report["differences"] if row["type"] == "all")
    assert {row["caller"] for row in report["costs"]} >= set(OUTSIDE)
    software = {row["caller"]: str(row["software"]).split()[0] for row in report["software_of_callers"]}
    assert {name: software[name] for name in OUTSIDE} == {name: name for name in OUTSIDE}
    assert any("freebayes" in row["callers"] for row in report["patterns"])
    page = (workspace.path / "results/tiny/evaluation.html").read_text()
    assert all(name in page for name in ("bcftools", "freebayes", "GATK", "DeepVariant"))
    assert "gatk 4.6.2.0" in page
    assert hashlib.sha256(b"an image").hexdigest()[:12] in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("caller", "script", "status"),
    [
        ("freebayes", "echo no space left >&2; exit 3", 3),
        ("gatk", '[ "$1" = --version ] && exit 0; echo Java heap space >&2; kill -9 $$', 137),
        ("run_deepvariant", "exit 1", 1),
    ],
)
def test_callers__one_that_fails_is_one_line(
    called: Workspace, tmp_path: Path, caller: str, script: str, status: int
) -> None:
    name = caller.removeprefix("run_")
    workspace = called.copy(tmp_path / "workspace")
    for folder in ("callers", "baselines"):
        shutil.rmtree(workspace.path / f"results/tiny/north/{folder}/{name}")
    tools = install(tmp_path / "bin")
    (tools / caller).unlink(missing_ok=True)
    (tools / caller).write_text(f"#!/bin/bash\n{script}\n")
    (tools / caller).chmod(0o755)
    target = f"results/tiny/north/baselines/{name}/{PATIENT}.vcf.gz"
    result = snakemake(workspace, f"{tools}:{os.environ['PATH']}", "--quiet", "all", "--", target)
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("fedcall: ")]
    log = f"logs/call_{name}/tiny.north.{PATIENT}.log"
    assert line.startswith(f"fedcall: call_{name}: the caller ended with exit status {status} on patient {PATIENT}")
    assert f"what it said is in {log}; mend that" in line
    assert {3: "no space left", 137: "Java heap space", 1: ""}[status] in (workspace.path / log).read_text()


def test_callers__a_missing_tool_is_one_line_before_any_job(workspace: Workspace, tmp_path: Path) -> None:
    choose(workspace, ["bcftools", "gatk"])
    bare = f"{BIN}:/usr/bin:/bin"
    if shutil.which("gatk", path=bare):
        pytest.skip("gatk is installed here")
    result = snakemake(workspace, bare, "--dry-run")
    assert result.returncode == 2
    lines = [line for line in result.stdout.splitlines() if line.startswith("fedcall: ")]
    assert lines == [
        "fedcall: callers: caller 'gatk' needs the command 'gatk', which is not on PATH; run snakemake with"
        " --sdm conda, which supplies it, install it, or leave 'gatk' out"
    ]
    assert not (workspace.path / "results").exists()
    # What Snakemake supplies need not be there. No conda is found here either, and then that is what is said.
    supplied = snakemake(workspace, bare, "--dry-run", "--sdm", "conda")
    assert "is not on PATH" not in supplied.stdout


@pytest.mark.parametrize(
    ("callers", "expected"),
    [
        (["samtools"], "Input should be 'bcftools', 'freebayes', 'gatk' or 'deepvariant' (found 'samtools')"),
        (["gatk", "gatk"], "'callers' names 'gatk' twice; each caller once"),
    ],
)
def test_config__callers_are_those_that_are_known(workspace: Workspace, callers: list[str], expected: str) -> None:
    choose(workspace, callers)
    checked = run_forked("fedcall", "check", "config/config.yaml", cwd=workspace.path)
    assert checked.returncode == 2
    assert expected in checked.stderr
    assert len(checked.stderr.splitlines()) == 1


def test_rules__name_versions_that_the_documents_name() -> None:
    gatk = yaml.safe_load((ROOT / "workflow/envs/gatk.yaml").read_text())
    assert gatk["dependencies"] == ["gatk4 =4.6.2.0"]
    assert Config.model_fields["deepvariant_image"].default == "docker://google/deepvariant:1.10.0"
    assert "google/deepvariant:1.10.0" in (ROOT / "docs/callers.md").read_text()
