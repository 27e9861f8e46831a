"""The workflow's rules on shards write what they write without."""

from pathlib import Path

import yaml
from rehearsal_workspace import STUDY, Workspace

COHORT = {"seed": 7, "sites": {"north": 1, "south": 1}, "holdout": 1, "public": 0, "region_length": 24_000, "depth": 12}
WANTED = (
    "results/tiny/north/examples/north-001.safetensors",
    "results/tiny/north/baselines/likelihood/north-h01.vcf.gz",
)


def make(workspace: Workspace, shard_size: int) -> tuple[list[bytes], list[Path]]:
    path = workspace.path / "config/config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "shard_size": shard_size}))
    result = workspace.snakemake(*WANTED, "--rerun-triggers", "mtime")
    assert result.returncode == 0, result.stdout[-4000:]
    logs = [*workspace.path.glob("logs/*_shard/*.log")]
    return [(workspace.path / name).read_bytes() for name in WANTED], logs


def test_shards__same_bytes_as_one_job(tmp_path):
    workspace = Workspace.create(tmp_path / "run", COHORT, STUDY)
    whole, logs = make(workspace, 24_000)
    assert not logs, "regions that fit one shard pay no extra jobs"
    for name in WANTED:
        (workspace.path / name).unlink()
    in_shards, logs = make(workspace, 10_000)
    assert len(logs) == 2 * 3
    assert in_shards == whole
    assert not [*workspace.path.glob("results/**/*-of-*")], "parts are temporary"
