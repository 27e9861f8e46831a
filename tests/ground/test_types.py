"""The library is typed as `mypy --strict` asks, and says so to those who import it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_types_are_declared_to_importers_and_checked_strictly():
    assert (ROOT / "src/fedcall/py.typed").exists()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True


@pytest.mark.slow
def test_types_hold():
    answer = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
