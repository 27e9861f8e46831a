"""The table of contents of the command line."""

import importlib
import re

import typer
from typer.models import CommandInfo

# Each module has a function `register(app)` that adds its commands; `fedcall --help` lists them under these headings.
MODULES = {
    "Start here": ("check", "simulate"),
    "Data path: from alignments to calls": ("normalise", "regions", "pileup", "call", "concordance"),
    "Data path: training with privacy": ("train", "exchange", "audit", "utility"),
    "A hospital": ("site", "ledger", "privacy"),
    "The coordinator": ("study", "aggregator", "quarantine", "attestation"),
    "Reports and measurements": ("report", "benchmark"),
}


def register(app: typer.Typer) -> None:
    """Add every command to `app`."""
    known = len(app.registered_commands), len(app.registered_groups)
    for heading, modules in MODULES.items():
        for module in modules:
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
