"""Child processes of the aggregator: started with a log of their own, and never outliving their parent."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 10.0
_LOG_BYTES = 8 * 1024 * 1024  # of a log; beyond it the log becomes the previous one, and the previous one goes


class ChildLost(Exception):  # noqa: N818  (the supervisor starts another)
    """A child process ended or does not answer."""


class Child:
    """One running child process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self.log = name, log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise ChildLost, with the end of its log, if the child is not running; keep the log short."""
        _keep_short(self.log)
        code = self._process.poll()
        if code is not None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ChildLost(f"{self.name} ended with exit code {code}: {' | '.join(tail) or 'no output'}")


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    sockets: Sequence[int] = (),
) -> Iterator[Child]:
    """Run a command for as long as the context lasts; its output is appended to `log`.

    The kernel kills the child when this process dies in whatever way. `sockets` are file descriptors it inherits.
    """
    parent = os.getpid()
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            env=None if environment is None else {**os.environ, **environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=sockets,
            preexec_fn=lambda: _start_of_child(parent),
        )
    try:
        yield Child(name, process, log)
    finally:
        _stop(process)


def _keep_short(log: Path) -> None:
    """Move what a log holds to `NAME.1` once it is long; the child goes on appending to the same, now empty, file."""
    with suppress(OSError):
        if log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG; Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _start_of_child(parent: int) -> None:
    os.setpgid(0, 0)  # so that Ctrl-C reaches only the parent, which stops its children in order
    die_with(parent)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
