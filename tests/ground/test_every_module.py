"""Every module is imported, and `make quick` runs a test of every package."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fedcall
from chosen_tests import LONGEST_FIRST, QUICK, order

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(fedcall.__file__).parent
# Flower starts this folder as an app of its own, in which its modules have other names.
APP = SOURCE / "federation/flower/app"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if APP not in path.parents and path.name != "__main__.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_module__is_imported(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("file", [*QUICK, *LONGEST_FIRST])
def test_chosen_tests__are_there(file: str) -> None:
    assert (ROOT / file).is_file()


def test_quick__has_a_test_of_every_package() -> None:
    # A folder of tests has the name of its package; the ground's modules share one.
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    folders = {folder for folder in folders if folder == "tests/ground" or (SOURCE / folder[len("tests/") :]).is_dir()}
    assert folders - {Path(file).parent.as_posix() for file in QUICK} == set()


def test_order__longest_files_begin_first() -> None:
    assert sorted(["tests/ground/test_keys.py", *LONGEST_FIRST], key=order) == [
        *LONGEST_FIRST,
        "tests/ground/test_keys.py",
    ]


def test_quick__collects_its_own_files_only() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "quick and not slow", "tests/privacy"]
    shown = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTEST_ADDOPTS": ""}, capture_output=True, text=True, timeout=600
    ).stdout
    files = {line.partition("::")[0] for line in shown.splitlines() if "::" in line}
    assert files == {file for file in QUICK if file.startswith("tests/privacy")}
