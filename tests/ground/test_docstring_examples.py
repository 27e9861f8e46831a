"""Examples in docstrings run and say what they print; only modules that have one are imported."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if "    >>> " in path.read_text()
)


def test_examples__are_found():
    assert len(MODULES) >= 10


@pytest.mark.parametrize("module", MODULES)
def test_examples__print_what_they_say(module: str):
    outcome = doctest.testmod(importlib.import_module(module), raise_on_error=False)
    assert outcome.attempted > 0
    assert outcome.failed == 0
