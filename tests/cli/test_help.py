"""Help that teaches: every command explains itself with an example, every option says what it means."""

import re
from collections.abc import Iterator

import click
import pytest
import typer

from fedcall.cli import app, commands

commands.register(app)


def leaves(command: click.Command, path: tuple[str, ...] = ("fedcall",)) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


def groups(command: click.Command, path: tuple[str, ...] = ("fedcall",)) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", None)
    if children is not None:
        yield " ".join(path), command
        for name, child in children.items():
            yield from groups(child, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_register__each_command_finds_the_module_that_has_it() -> None:
    """A command imports its own module only, by the table of contents; a name missing there would be no command."""
    for modules in commands.MODULES.values():
        for module, names in modules.items():
            for name in names:
                alone = typer.Typer()
                alone.callback()(lambda: None)  # or a single command would have no name
                commands.register(alone, name)
                assert set(getattr(typer.main.get_command(alone), "commands", {})) == set(names), module
    listed = {name for modules in commands.MODULES.values() for names in modules.values() for name in names}
    assert listed == set(getattr(typer.main.get_command(app), "commands", {}))


@pytest.mark.parametrize("name", COMMANDS)
def test_help__has_an_example_that_is_this_command(name: str) -> None:
    text = " ".join((COMMANDS[name].help or "").split())
    assert f"Example: {name} " in f"{text} "


GROUPS = dict(groups(typer.main.get_command(app)))


@pytest.mark.parametrize("name", GROUPS)
def test_help__of_a_group_ends_with_an_example_of_one_of_its_commands(name: str) -> None:
    example = (GROUPS[name].epilog or "").partition("Example: ")[2]
    assert any(example.startswith(f"{command} ") for command in COMMANDS if command.startswith(f"{name} "))


def test_help__lists_every_command_under_a_heading_in_80_columns() -> None:
    from typer.testing import CliRunner

    text = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(app, ["--help"]).output
    listed = re.findall(r"^│ ([a-z][a-z-]*)", text, re.MULTILINE)
    assert {name.split()[1] for name in (*COMMANDS, *GROUPS) if " " in name} == set(listed)
    assert "─ Commands ─" not in text  # where those without a heading would stand
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help__example_uses_options_that_exist_and_all_that_are_needed(name: str) -> None:
    command = COMMANDS[name]
    example = " ".join((command.help or "").split()).partition("Example: ")[2]
    used = set(re.findall(r"(?<=\s)--[a-z0-9][a-z0-9-]*", example))
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert used <= {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    for option in options:
        if option.required:
            assert used & set(option.opts), option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_help__every_option_says_what_it_means(name: str) -> None:
    for option in COMMANDS[name].params:
        assert getattr(option, "help", None) or option.name == "help", option.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion__offers_commands_and_options(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    words = {"bash": {"COMP_WORDS": "fedcall ledger ", "COMP_CWORD": "2"}}
    words |= {"zsh": {"_TYPER_COMPLETE_ARGS": "fedcall ledger "}}
    words |= {"fish": {"_TYPER_COMPLETE_ARGS": "fedcall ledger ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}}
    result = CliRunner().invoke(
        app, env={"_FEDCALL_COMPLETE": f"complete_{shell}", **words[shell]}, prog_name="fedcall"
    )
    assert {"show", "verify"} <= set(re.findall(r"\b(show|verify)\b", result.output))
