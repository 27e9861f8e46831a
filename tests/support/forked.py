"""A command line as a process of its own, forked from the test's: as from a shell, without the start of Python.

Most of what a small command costs is its imports, and the test's process has them. The child has its own streams,
folder and environment, and ends with the exit status of the command. Starts as such are tested where they are made as
people make them: in `tests/cli/test_site.py`, by the jobs of every workflow, by services and by whatever is killed.
"""

import gc
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, NoReturn

_MODULES = {"fedcall": "fedcall.cli", "snakemake": "snakemake.cli"}


def run_forked(
    program: Literal["fedcall", "snakemake"],
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
    together: bool = False,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what `subprocess.run` would, its output as text; it is killed after `timeout` seconds.

    With `together`, what it says on both streams is the result's `stdout`. With `check`, a failure raises
    CalledProcessError.
    """
    command = [program, *map(str, arguments)]
    importlib.import_module(_MODULES[program])
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            _become(command, output, output if together else errors, cwd, env)
        overtime = threading.Timer(timeout, os.kill, [child, signal.SIGKILL])
        overtime.start()
        _, status = os.waitpid(child, 0)
        overtime.cancel()
        said = [_all_of(stream) for stream in (output, errors)]
    done = subprocess.CompletedProcess(
        command, os.waitstatus_to_exitcode(status), said[0], None if together else said[1]
    )
    if check and done.returncode:
        print(*said, sep="\n", file=sys.stderr)
        done.check_returncode()
    return done


def _all_of(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


def _become(
    command: Sequence[str], output: IO[bytes], errors: IO[bytes], cwd: Path | None, env: Mapping[str, str] | None
) -> NoReturn:
    """Be the program; nothing of the test's process goes on in this one."""
    code = 1
    try:
        gc.freeze()  # what the test holds is neither collected nor closed here
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = sys.__stdin__ = os.fdopen(0)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        _forget_pytest()
        if cwd is not None:
            os.chdir(cwd)
        if env is not None:
            for name in os.environ.keys() - env.keys():
                del os.environ[name]
            os.environ.update(env)
        code = _exit_code(command)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _forget_pytest() -> None:
    """Undo what pytest does to a process: it catches warnings, log records and interrupts."""
    logging.getLogger().handlers.clear()
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.showwarning = lambda *told, **more: print(
        warnings.formatwarning(*told[:4]), end="", file=sys.stderr
    )  # pytest's own collects them
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_code(command: Sequence[str]) -> int:
    sys.argv = list(command)
    sys.excepthook = sys.__excepthook__
    module = importlib.import_module(_MODULES[command[0]])
    if command[0] == "fedcall":  # its commands are registered as they are called; another test may have called some
        module.app.registered_commands.clear()
        module.app.registered_groups.clear()
    else:  # it keeps the output of its first import for its jobs: a capturing test's, which may have no descriptor
        importlib.import_module("snakemake.shell").STDOUT = sys.stdout
    try:
        module.main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except Exception:
            traceback.print_exc()
        return 1
    return 0
