"""Folders that are slow to make: made by the first worker of a test run that needs one, copied by every worker.

`make test` runs several workers (pytest-xdist), each a session of its own, so that a session-wide fixture would be made
once per worker. Everybody gets a copy, the maker too: a test may change its folder while another worker copies.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return this worker's copy of a folder that `build` fills, at its name, once for all workers of the run."""
    base = factory.getbasetemp()
    # A worker's folder lies in the run's; without workers they are one.
    run = base.parent if base.name.startswith("popen-") else base
    made, done = run / f"made-{name}", run / f"made-{name}.done"
    with FileLock(run / f"made-{name}.lock"):  # waits without limit: whoever holds it bounds its own work
        if not done.exists():
            shutil.rmtree(made, ignore_errors=True)  # of a worker that failed
            build(made)
            done.touch()
    return copied(made, factory.mktemp(name) / name)


def copied(source: Path, target: Path) -> Path:
    """Copy a folder with the times of its files; one that goes meanwhile is left out.

    The rehearsal's aggregator outlives its workflow for a while; its database's side files go when it does.
    """

    def copy(path: str, copy: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(path, copy)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)
    return target
