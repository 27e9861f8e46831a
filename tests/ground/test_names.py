"""Names: that of a class means one thing."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fedcall

SOURCE = Path(fedcall.__file__).parents[1]


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("fedcall", "snakemake_report_plugin_privacy", "snakemake_logger_plugin_fedcall"):
        for path in sorted((SOURCE / package).rglob("*.py")):
            yield path.relative_to(SOURCE), ast.parse(path.read_text())


def test_classes__no_name_means_two_things() -> None:
    places = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    assert places
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
