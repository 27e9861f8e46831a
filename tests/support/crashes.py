"""Children that die by kill -9 at a chosen moment."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(owner: object, name: str, when: str, calls: int = 1) -> Callable[[], None]:
    """Return a preparation that makes the child die before or after the n-th call of `owner.name`."""

    def prepare() -> None:
        original, made = getattr(owner, name), []

        def wrapped(*arguments: object, **options: object) -> object:
            made.append(1)
            if when == "before" and len(made) == calls:
                die()
            result = original(*arguments, **options)
            if when == "after" and len(made) == calls:
                die()
            return result

        setattr(owner, name, wrapped)

    return prepare


def run_and_kill(work: Callable[[], object], moment: int) -> bool:
    """Run `work` in a child that is killed at its `moment`-th durable operation; say whether it was."""
    child = os.fork()
    if child == 0:
        _kill_at(moment)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _kill_at(moment: int) -> None:
    """Make every fsync, rename and unlink of this process two moments: just before it and just after it."""
    count = 0

    def counted(operation: Callable) -> Callable:
        def run(*arguments, **options):
            _tick()
            result = operation(*arguments, **options)
            _tick()
            return result

        return run

    def _tick() -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, os.replace, Path.unlink = counted(os.fsync), counted(os.replace), counted(Path.unlink)
