"""The `fedcall` command. One module per command; heavy imports stay inside the functions that need them."""

import errno
import os
import sys

# One thread per process unless a command's --threads says otherwise; must precede the import of numpy and torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pydantic looks through all installed packages for plugins of its own, at every start; none are used here.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import click
import typer

from fedcall import __version__
from fedcall.cli.printing import say, show_traceback
from fedcall.errors import FedcallError, no_room
from fedcall.shown import shown

_OF_THE_SYSTEM = {
    *(errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
}

app = typer.Typer(
    name="fedcall",
    help="Train a variant caller across hospitals without moving a read out of any of them.",
    epilog="Each command explains itself with an example: fedcall pileup --help. Exit status: 0 done, 2 a mistake of"
    " the user's (one line says what, where and what to do), 3 refused by a privacy rule, 1 a bug of ours. Several"
    " commands run one after another, up to the first that fails, with --then between them."
    " Example: fedcall check config/config.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"fedcall {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _system_says(error: OSError) -> str | None:
    """Return a line for what the system refuses and a person can change; None for what may be a bug of ours."""
    theirs = error.errno in _OF_THE_SYSTEM or (error.errno == errno.ENOENT and str(error.filename) in sys.argv)
    return f"{error.filename}: {error.strerror}" if theirs and error.filename is not None else None


def main() -> None:
    """Run the command line: exit 0 done, 2 a user's mistake, 3 refused by a privacy rule, 1 our bug."""
    from fedcall.cli import commands

    sys.excepthook = show_traceback
    try:
        for arguments in commands.in_turn(sys.argv[1:]):
            commands.register(app, next(iter(arguments), None))
            app(arguments, standalone_mode=False)
    except FedcallError as error:
        say(f"fedcall: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        said = no_room(error) or _system_says(error)
        if said is None:
            raise
        say(f"fedcall: {said}", err=True)
        sys.exit(FedcallError.exit_code)
    except click.exceptions.Abort:
        say("fedcall: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.message = shown(error.message, 1000)
        error.show()
        sys.exit(2)
    except Exception as error:
        full = no_room(error)
        if full is None:
            raise
        say(f"fedcall: {full}", err=True)
        sys.exit(full.exit_code)
