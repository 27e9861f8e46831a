"""Children that die by kill -9 at a chosen moment."""

import os
import signal
from collections.abc import Callable


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
