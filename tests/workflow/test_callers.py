"""Other callers in a finished rehearsal: freebayes itself, and stand-ins for GATK and DeepVariant."""

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

from fedcall.genomics.truth.confident_regions import write_confident_regions
from fedcall.genomics.truth.normalise_labels import normalise_labels
from fedcall.workflow.configuration import Config
from rehearsal_workspace import BIN, ROOT, Workspace
from stand_in_callers import install

needs_freebayes = pytest.mark.skipif(shutil.which("freebayes") is None, reason="freebayes is not installed here")
OUTSIDE = ["bcftools", "freebayes", "gatk", "deepvariant"]


def snakemake(workspace: Workspace, path: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow with a PATH of its own."""
    return subprocess.run(
        [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", *options],
        cwd=workspace.path,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )


def choose(workspace: Workspace, callers: list[str]) -> None:
    config = workspace.path / "config/config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"callers": callers}))


@pytest.fixture(scope="module")
def called(rehearsal: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a copy of the finished rehearsal, evaluated again with four callers."""
    if shutil.which("freebayes") is None:
        pytest.skip("freebayes is not installed here")
    folder = tmp_path_factory.mktemp("callers")
    workspace = rehearsal.copy(folder / "workspace")
    choose(workspace, OUTSIDE)
    image = folder / "deepvariant.sif"
    image.write_bytes(b"an image")
    tools = install(folder / "bin")
    result = snakemake(
        workspace,
        f"{tools}:{os.environ['PATH']}",
        "--quiet",
        "rules",
        "reason",
        "--",
        "results/tiny/evaluation.html",
        APPTAINER_CONTAINER=str(image),
    )
    assert result.returncode == 0, result.stdout[-6000:]
    return workspace


@pytest.mark.slow
def test_callers__stand_side_by_side_in_the_evaluation(called: Workspace) -> None:
    report = json.loads((called.path / "results/tiny/evaluation.json").read_text())
    assert report["callers"] == ["final", "initial", "likelihood", *OUTSIDE]
    compared = {(row["caller"], row["type"]) for row in report["differences"]}
    assert compared == {(caller, kind) for caller in report["callers"][1:] for kind in ("snps", "indels", "all")}
    for row in report["differences"]:
        if row["f1"]["low"] is not None:
            assert row["f1"]["low"] <= row["f1"]["value"] <= row["f1"]["high"]
    costs = {row["caller"]: row for row in report["costs"]}
    assert set(costs) == set(report["callers"])
    assert all(row["memory_mb"] is None or row["memory_mb"] > 0 for row in costs.values())
    software = {row["caller"]: row for row in report["software_of_callers"]}
    assert software["gatk"]["software"] == "gatk 4.6.2.0"
    assert software["deepvariant"]["software"] == "deepvariant 1.10.0"
    digest = hashlib.sha256(b"an image").hexdigest()
    assert software["deepvariant"]["image"] == f"docker://google/deepvariant:1.10.0 sha256:{digest}"
    assert re.fullmatch(r"freebayes 1\.\d+\.\d+\S*", software["freebayes"]["software"])
    assert re.fullmatch(r"bcftools \d+\.\d+\S*", software["bcftools"]["software"])
    # The stand-ins call what bcftools calls, so the three agree in everything.
    scores = {
        row["caller"]: (row["truth"], row["calls"], row["f1"]["value"])
        for row in report["scopes"][0]["figures"]
        if row["type"] == "all"
    }
    assert scores["gatk"] == scores["deepvariant"] == scores["bcftools"]
    assert sum(row["count"] for row in report["patterns"] if row["kind"] == "true variant") == scores["final"][0]
    page = (called.path / "results/tiny/evaluation.html").read_text()
    assert "Callers side by side" in page
    assert "Where callers disagree" in page


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["gatk", "deepvariant"])
def test_callers__gvcfs_are_kept_and_are_truth_and_regions_of_the_next_study(
    called: Workspace, caller: str, tmp_path: Path
) -> None:
    (gvcf,) = (called.path / f"results/tiny/north/callers/{caller}").glob("*.g.vcf.gz")
    reference = called.path / "resources/cohort/reference.fa"
    labels = normalise_labels(gvcf, reference, tmp_path / "labels.vcf.gz")
    covered = write_confident_regions(gvcf, reference, tmp_path / "regions.bed")
    assert labels.kept > 0
    assert covered > 1000
    name = gvcf.name.removesuffix(".g.vcf.gz")
    with pysam.VariantFile(str(called.path / f"results/tiny/north/baselines/{caller}/{name}.vcf.gz")) as calls:
        assert list(calls.header.samples) == [name]
        assert str(calls.header).count("/home/somebody") == 0


@pytest.mark.slow
def test_callers__each_leaves_its_log_and_benchmark(called: Workspace) -> None:
    for caller in OUTSIDE[1:]:
        assert list((called.path / f"logs/call_{caller}").iterdir())
        assert list((called.path / f"benchmarks/call_{caller}").iterdir())


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
    checked = subprocess.run(
        [BIN / "fedcall", "check", "config/config.yaml"], cwd=workspace.path, capture_output=True, text=True
    )
    assert checked.returncode == 2
    assert expected in checked.stderr
    assert len(checked.stderr.splitlines()) == 1


def test_rules__name_versions_that_the_documents_name() -> None:
    gatk = yaml.safe_load((ROOT / "workflow/envs/gatk.yaml").read_text())
    assert gatk["dependencies"] == ["gatk4 =4.6.2.0"]
    assert Config.model_fields["deepvariant_image"].default == "docker://google/deepvariant:1.10.0"
    assert "google/deepvariant:1.10.0" in (ROOT / "docs/callers.md").read_text()
