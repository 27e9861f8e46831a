"""The map in docs/architecture.md names rules, commands, functions and tests that exist."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from fedcall.cli import app, commands

commands.register(app)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]


def names(pattern: str) -> list[str]:
    return sorted({match for row in ROWS for match in re.findall(pattern, row)})


def test_architecture__is_read():
    assert len(names(r"`(tests/[^`]+::[^`]+)`")) >= 40
    assert len(names(r"`(fedcall\.[^`]+)`")) >= 30


@pytest.mark.parametrize("test", names(r"`(tests/[^`]+::[^`]+)`"))
def test_architecture__tests_exist(test: str):
    path, _, name = test.partition("::")
    assert name in definitions(ROOT / path), f"{path} has no {name}"


@pytest.mark.parametrize("name", names(r"`(fedcall\.[^`]+)`"))
def test_architecture__functions_exist(name: str):
    module, _, last = name.rpartition(".")
    source = ROOT / "src" / module.replace(".", "/")
    whole = source / last
    if whole.with_suffix(".py").exists() or whole.is_dir():
        return
    assert last in definitions(source.with_suffix(".py")), f"{module} has no {last}"


@pytest.mark.parametrize("rule", names(r"rule `(\w+)`"))
def test_architecture__rules_exist(rule: str):
    files = [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    assert any(f"rule {rule}:" in path.read_text() for path in files)


@pytest.mark.parametrize("command", names(r"`fedcall ([a-z -]+)`"))
def test_architecture__commands_exist(command: str):
    found = get_command(app)
    for word in command.split():
        assert word in getattr(found, "commands", {}), f"fedcall {command}: there is no '{word}'"
        found = found.commands[word]


def test_architecture__every_package_has_its_row():
    packages = {path.parent.name for path in (ROOT / "src/fedcall").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "src/fedcall").glob("*.py") if not path.stem.startswith("__")}
    table = PAGE.partition("## Packages")[2].partition("## Files")[0]
    assert {name for name in packages | modules if f"`{name}`" not in table} == set()


def definitions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
