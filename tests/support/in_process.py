"""A command line of fedcall in the process of the test: as fast as a function, through everything a shell would see."""

import sys

import pytest

from fedcall import cli


def run_in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of `fedcall ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["fedcall", *map(str, arguments)])
    app = cli.typer.Typer(no_args_is_help=True)
    app.callback()(lambda: None)  # so that a single command keeps its name
    monkeypatch.setattr(cli, "app", app)
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
