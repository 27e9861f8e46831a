"""Config key `panel`: calls are made with it, whole or in shards, and it says what is rare; nothing else uses it."""

import gzip
import re
from pathlib import Path

import pytest
import yaml

from fedcall.files import sha256_file
from panel_of_people import write_panel
from rehearsal_workspace import STUDY, Workspace

COHORT = {"seed": 7, "sites": {"north": 1, "south": 1}, "holdout": 1, "public": 6, "region_length": 24_000, "depth": 6}
CALLS = "results/tiny/north/baselines/likelihood/north-h01.vcf.gz"


def change(workspace: Workspace, **keys: object) -> None:
    path = workspace.path / "config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def run(workspace: Workspace, *options: str) -> str:
    result = workspace.snakemake(CALLS, "--printshellcmds", *options)
    assert result.returncode == 0, result.stdout[-4000:]
    return result.stdout


def test_panel__changes_calls_and_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "run", COHORT, STUDY)
    calls = workspace.path / CALLS
    run(workspace)
    without = calls.read_bytes()
    public = (workspace.path / "resources/cohort").glob("public-*.truth.vcf.gz")
    panel = write_panel(workspace.path / "panel of people.vcf", public)
    change(workspace, panel=panel.name)
    said = run(workspace)
    assert [line.split()[1][:-1] for line in said.splitlines() if line.startswith(("rule ", "localrule "))] == [
        "call_baseline"
    ]
    with_panel = calls.read_bytes()
    assert f"##fedcall_panel={sha256_file(panel)}" in gzip.decompress(with_panel).decode()
    assert records(with_panel) != records(without)
    change(workspace, shard_size=10_000)
    calls.unlink()
    run(workspace, "--rerun-triggers", "mtime")
    assert len([*workspace.path.glob("logs/call_baseline_shard/*.log")]) == 3
    assert calls.read_bytes() == with_panel


@pytest.mark.parametrize("shard_size", [5_000_000, 10_000])
def test_panel__named_where_calls_are_made(tmp_path: Path, shard_size: int) -> None:
    workspace = Workspace.create(tmp_path / "run", COHORT, STUDY)
    panel = workspace.path / "p.vcf.gz"
    panel.touch()
    Path(f"{panel}.tbi").touch()
    change(workspace, panel=panel.name, shard_size=shard_size)
    result = workspace.snakemake("--dry-run", "--printshellcmds")
    assert result.returncode == 0, result.stdout[-4000:]
    commands = re.findall(r"(?:fedcall|--then) ([a-z-]+) (.*?)(?= --then |$)", result.stdout, re.MULTILINE)
    assert {command for command, options in commands if "p.vcf.gz" in options} == {
        "call",
        "concordance",
        "compare-people",
    }
    assert all("--panel p.vcf.gz" in options for command, options in commands if command in ("call", "concordance"))
    assert "allele-counts" not in {command for command, _ in commands}


def records(calls: bytes) -> list[str]:
    return [line for line in gzip.decompress(calls).decode().splitlines() if not line.startswith("#")]
