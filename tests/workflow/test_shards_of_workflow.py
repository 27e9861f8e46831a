"""The workflow's rules on shards write what they write without."""

from pathlib import Path

import yaml

from rehearsal_workspace import STUDY, Workspace

COHORT = {"seed": 7, "sites": {"north": 1, "south": 1}, "holdout": 1, "public": 0, "region_length": 24_000, "depth": 12}
WANTED = (
    "results/tiny/north/examples/north-001.safetensors",
    "results/tiny/north/baselines/likelihood/north-h01.vcf.gz",
)
# Made in one job with the examples where regions are small and whole, in jobs of their own where they are in shards.
BEFORE = ("results/tiny/north/alignments/north-001.bam", "results/tiny/north/labels/north-001.vcf.gz")


def make(workspace: Workspace, **choices: int) -> tuple[list[bytes], list[Path]]:
    path = workspace.path / "config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | choices))
    for old in (*workspace.path.glob("logs/*_shard/*.log"), *(workspace.path / name for name in WANTED)):
        old.unlink(missing_ok=True)
    result = workspace.snakemake(*WANTED, "--printshellcmds", "--rerun-triggers", "mtime")
    assert result.returncode == 0, result.stdout[-4000:]
    logs = [*workspace.path.glob("logs/*_shard/*.log")]
    assert result.stdout.count("--shard-size 10000") == len(logs), "each works through its shards in turn"
    return [(workspace.path / name).read_bytes() for name in WANTED], logs


def test_shards__same_bytes_as_one_job(tmp_path):
    workspace = Workspace.create(tmp_path / "run", COHORT, STUDY)
    whole, logs = make(workspace, shard_size=24_000)
    assert not logs, "regions that fit one shard pay no extra jobs"
    joined = [(workspace.path / name).read_bytes() for name in BEFORE]
    assert {path.name for path in (workspace.path / "logs").glob("*prepare*")} == {
        "prepare_training_patient",
        "prepare_patient",
    }
    for name in BEFORE:
        (workspace.path / name).unlink()
    in_shards, logs = make(workspace, shard_size=10_000)
    assert len(logs) == 2 * 3
    assert in_shards == whole
    assert [(workspace.path / name).read_bytes() for name in BEFORE] == joined
    assert {path.name for path in (workspace.path / "logs").glob("normalise_*")} == {
        "normalise_alignments",
        "normalise_labels",
    }
    in_turn, logs = make(workspace, shard_size=10_000, shard_jobs=2)
    assert len(logs) == 2 * 2, "three shards by two jobs"
    assert in_turn == whole
    assert not [*workspace.path.glob("results/**/*-of-*")], "parts are temporary"
