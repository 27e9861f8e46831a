"""Everything that a command prints goes through here: text from outside writes no line of its own, moves no cursor."""

import sys
from types import TracebackType

import typer

from fedcall.shown import shown, shown_block

_LINE_CHARACTERS = 4000


def say(line: object, err: bool = False) -> None:
    """Print one line."""
    typer.echo(shown(line, _LINE_CHARACTERS), err=err)


def say_block(text: str) -> None:
    """Print a table or JSON: its line feeds are ours, and what comes from outside was put in without any."""
    typer.echo(shown_block(text))


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a bug's traceback (an excepthook): what the error says may come from outside, too."""
    import traceback

    sys.stderr.write(shown_block("".join(traceback.format_exception(kind, error, trace))))
