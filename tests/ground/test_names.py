"""Names and sizes: a class's name means one thing, a file does one thing, nobody learns nine parameters by heart."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fedcall

SOURCE = Path(fedcall.__file__).parents[1]
MOST_LINES = 400
MOST_BY_PLACE = 8  # parameters whose order a caller must know


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("fedcall", "snakemake_report_plugin_privacy", "snakemake_logger_plugin_fedcall"):
        for path in sorted((SOURCE / package).rglob("*.py")):
            yield path.relative_to(SOURCE), ast.parse(path.read_text())


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_classes__no_name_means_two_things() -> None:
    places = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    assert places
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_modules__are_read_in_one_sitting() -> None:
    lengths = {str(path): len((SOURCE / path).read_text().splitlines()) for path, _ in modules()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_functions__of_nine_things_are_told_by_name() -> None:
    """Commands have a parameter for each option, and compiled kernels one for each array; both are left out."""
    long = {}
    for path, tree in modules():
        if path.parts[1] == "cli" or path.stem.endswith("_kernels"):
            continue
        for node in functions(tree):
            by_place = [one.arg for one in [*node.args.posonlyargs, *node.args.args] if one.arg not in ("self", "cls")]
            if len(by_place) > MOST_BY_PLACE:
                long[f"{path}:{node.name}"] = len(by_place)
    assert long == {}
