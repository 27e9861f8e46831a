"""The table of contents of the command line."""

import importlib
import re
from collections.abc import Sequence

import typer
from typer.models import CommandInfo

# Each module has a function `register(app)` that adds these commands; `fedcall --help` lists them under the headings.
MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "Start here": {"check": ("check", "compare-people"), "simulate": ("simulate",)},
    "Data path: from alignments to calls": {
        "normalise": ("align", "normalise-alignments", "normalise-labels", "confident-regions"),
        "recalibrate": ("recalibrate",),
        "pileup": ("pileup", "gather"),
        "call": ("call", "call-classical"),
        "concordance": ("concordance", "errors", "allele-counts"),
        "compare": ("compare",),
        "callers": ("callers",),
    },
    "Data path: training with privacy": {
        "train": ("train-public", "train-round"),
        "own": ("fit-chemistry",),
        "exchange": ("fetch", "fetch-log", "upload"),
        "judge": ("judge", "upload-judgement", "fetch-verdict"),
        "audit": ("audit",),
        "utility": ("utility",),
    },
    "A hospital": {
        "site": ("site",),
        "patient": ("patient",),
        "syft": ("syft",),
        "ledger": ("ledger",),
        "privacy": ("privacy",),
    },
    "The coordinator": {
        "study": ("study",),
        "aggregator": ("aggregator",),
        "quarantine": ("quarantine",),
        "attestation": ("attestation",),
    },
    "A helper": {"helper": ("helper",), "encryption": ("encryption",)},
    "Reports and measurements": {
        "report": ("report",),
        "benchmark": ("benchmark",),
        "experiments": ("experiments",),
    },
}


THEN = "--then"


def in_turn(arguments: Sequence[str]) -> list[list[str]]:
    """Return the arguments of each command of a line that names several, with `--then` between them.

    The start of a process takes longer than many a command: the workflow gives those of a small patient together.

    Examples
    --------
    >>> in_turn(["gather", "a", "--then", "gather", "b"])
    [['gather', 'a'], ['gather', 'b']]
    """
    commands: list[list[str]] = [[]]
    for argument in arguments:
        if argument == THEN:
            commands.append([])
        else:
            commands[-1].append(argument)
    return commands


def register(app: typer.Typer, wanted: str | None = None) -> None:
    """Add every command to `app`; of those that share a module with the command `wanted` these alone.

    A workflow starts hundreds of commands, each a moment's work: what a command does not use is not imported.
    """
    alone = {module for modules in MODULES.values() for module, names in modules.items() if wanted in names}
    known = len(app.registered_commands), len(app.registered_groups)
    for heading, modules in MODULES.items():
        for module in alone & modules.keys() if alone else modules:
            importlib.import_module(f"fedcall.cli.{module}").register(app)
        for command in app.registered_commands[known[0] :]:
            command.rich_help_panel = heading
        for group in app.registered_groups[known[1] :]:
            group.rich_help_panel = heading
        known = len(app.registered_commands), len(app.registered_groups)
    _teach(app)


def _teach(app: typer.Typer) -> None:
    """End the help of each group with the example of its first command."""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        _teach(group.typer_instance)
        group.epilog = _example(group.typer_instance.registered_commands[0])


def _example(command: CommandInfo) -> str:
    found = re.search(r"Example: .*", (command.callback and command.callback.__doc__) or "", re.DOTALL)
    return " ".join(found[0].split()) if found else ""
