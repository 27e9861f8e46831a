"""The table of contents of the command line."""

import importlib

import typer

# Each module has a function `register(app)` that adds its commands.
MODULES = (
    "check",
    "simulate",
    "normalise",
    "pileup",
    "call",
    "concordance",
    "train",
    "privacy",
    "audit",
    "utility",
    "ledger",
    "site",
    "study",
    "exchange",
    "aggregator",
    "quarantine",
    "report",
    "benchmark",
)


def register(app: typer.Typer) -> None:
    """Add every command to `app`."""
    for module in MODULES:
        importlib.import_module(f"fedcall.cli.{module}").register(app)
