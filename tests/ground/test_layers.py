"""Packages import only from those below them, as `.importlinter` writes down and docs/architecture.md draws."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PLANTED = {
    "fedcall/genomics/knows_privacy.py": "from fedcall.privacy.terms import PrivacyTerms",
    "fedcall/privacy/knows_snakemake.py": "import snakemake",
    "fedcall/study/knows_flower.py": "def late():\n    from flwr.app import Message",
    "fedcall/training/knows_reporting.py": "from fedcall.reporting.summary import summary",
    "fedcall/model/knows_itself/__init__.py": "from fedcall.model.knows_back import there",
    "fedcall/model/knows_back.py": "from fedcall.model.knows_itself import here",
}


def test_layers_are_kept():
    answer = lint(SOURCE)
    assert answer.returncode == 0, answer.stdout


def test_an_import_against_the_layers_is_found(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, line in PLANTED.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(line + "\n")
    answer = lint(tmp_path / "src")
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "0 kept" in answer.stdout, f"a contract holds although its rule is broken:\n{answer.stdout}"
    for imports in (
        "genomics.knows_privacy",
        "privacy.knows_snakemake",
        "study.knows_flower",
        "training.knows_reporting",
    ):
        assert f"fedcall.{imports} ->" in answer.stdout
    assert ".knows_itself -> .knows_back" in answer.stdout


@pytest.mark.parametrize("path", sorted((SOURCE / "fedcall/federation/aggregator").glob("*.py")), ids=lambda p: p.stem)
def test_the_aggregator_uses_public_interfaces_of_flower_only(path):
    imported = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flwr"
    }
    assert imported <= {"flwr.app", "flwr.serverapp", "flwr.serverapp.strategy"}


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / ".importlinter"],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
