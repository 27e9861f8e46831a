"""The aggregator's supervisor: keeps one worker process running, and ends with it when it ends on purpose."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from fedcall.federation.child import die_with

log = logging.getLogger("fedcall.aggregator")

_RESTARTS = 20  # of a worker that dies within the time below, before we give up
_RESTART_WINDOW_SECONDS = 300.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BUG = 1  # exit code, see fedcall.errors


class Stop(threading.Event):
    """Set when the operator stops the service; `interrupted` is set by an interrupt that is nobody's wish.

    Flower interrupts its own process when it has lost its run, for example because the machine was asleep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = threading.Event()


def supervise(work: Callable[[Stop], None]) -> None:
    """Run `work` in a child process, and again whenever that child is killed or crashes; return when it returned.

    `work` gets an event that is set when this process gets SIGTERM or SIGINT: only the operator stops it. What `work`
    raises is raised in the child, where the caller's handlers see it, and this process then exits with the child's exit
    code.

    Must be called from the main thread, while it is the only one.
    """
    supervisor = os.getpid()
    child = 0
    stopping = False

    def pass_on(_: int, __: object) -> None:
        nonlocal stopping
        stopping = True
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in _SIGNALS:
        signal.signal(number, pass_on)
    failures: list[float] = []
    while not stopping:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none may come between the fork and knowing the child
        child = os.fork()
        if child == 0:
            stop = _stop_on_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.setpgid(0, 0)
            die_with(supervisor)
            work(stop)
            return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = os.waitpid(child, 0)[1]  # goes on after a signal was handled (PEP 475)
        child = 0
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != _BUG:
            sys.exit(os.WEXITSTATUS(status))
        failures = [at for at in failures if time.monotonic() - at < _RESTART_WINDOW_SECONDS] + [time.monotonic()]
        how = f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended by an error"
        if len(failures) >= _RESTARTS:
            log.error("the aggregator was %s; gave up after %d starts", how, _RESTARTS)
            sys.exit(_BUG)
        log.warning("the aggregator was %s; starting it again", how)
        time.sleep(min(0.1 * 2 ** len(failures), 15.0))


def _stop_on_signals() -> Stop:
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.interrupted.set())
    return stop
