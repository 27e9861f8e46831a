"""Writes the reference pages of the documentation from what the software itself checks and prints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

from fedcall.cli import app, commands
from fedcall.files import write_text
from fedcall.workflow.schemas import SCHEMAS

TITLES = {
    "config": "`config.yaml`: one run",
    "samples": "`samples.tsv`: the patients",
    "study": "`study.yaml`: what all sites agree on",
    "claim": "Claims: what a site signs",
    "receipt": "Receipts: what the aggregator answers",
}


def write_reference(folder: Path) -> None:
    """Write `configuration.md` and `command-line.md` into `folder`."""
    write_text(folder / "configuration.md", configuration_page())
    write_text(folder / "command-line.md", command_line_page())


def configuration_page() -> str:
    """Every key of every file people or sites write, from the models that read them."""
    parts = ["# Configuration reference\n", "Generated from the models that read these files.\n"]
    for name, model in SCHEMAS.items():
        schema = model.model_json_schema()
        parts += [f"## {TITLES[name]}\n", schema.get("description", "") + "\n", _table(schema)]
        parts += [
            text
            for title, part in sorted(schema.get("$defs", {}).items())
            if "properties" in part
            for text in (f"### {title}\n", part.get("description", "") + "\n", _table(part))
        ]
    return "\n".join(parts)


def command_line_page() -> str:
    """Every command with its options, from the command line itself."""
    if not app.registered_groups:
        commands.register(app)
    parts = [
        "# Command line reference\n",
        "Exit codes: 0 done, 2 a user's mistake (one line says what, where, what to do), 3 refused by a privacy rule,"
        " 1 a bug of ours. `fedcall --install-completion` teaches the shell to complete all of this.\n",
    ]
    for path, command in _leaves(typer.main.get_command(app), ("fedcall",)):
        parts.append(f"## {' '.join(path)}\n")
        parts.append((command.help or "").strip() + "\n")
        rows = [_option_row(option) for option in command.params if not getattr(option, "hidden", False)]
        parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _leaves(child, (*path, name))


def _option_row(option: Any) -> str:
    flags = option.opts if option.opts[0].startswith("-") else [option.metavar or option.name.upper()]
    names = ", ".join(f"`{flag}`" for flag in flags)
    default = option.default() if callable(option.default) else option.default
    shown = "needed" if option.required else "" if default in (None, False, [], ()) else f"`{default}`"
    return f"| {names} | {shown} | {_cell(option.help or '')} |"


def _table(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in schema.get("properties", {}).items():
        default = "needed" if key in required else _default(value)
        lines.append(f"| `{key}` | {_type(value)} | {default} | {_cell(value.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return value["$ref"].rpartition("/")[2]
    if "enum" in value:
        return _cell(" | ".join(f"`{choice}`" for choice in value["enum"]))
    if "const" in value:
        return f"`{value['const']}`"
    if "anyOf" in value:
        return _cell(" or ".join(_type(choice) for choice in value["anyOf"] if choice.get("type") != "null"))
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    return str(value.get("type", "object"))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
