"""Try in a child process what may crash in htslib: a damaged index or file ends it there, and not here."""

import os
from collections.abc import Callable


def crashes(work: Callable[[], object]) -> bool:
    """Say whether the process that does the work is killed by a signal; an exception is no crash."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)
