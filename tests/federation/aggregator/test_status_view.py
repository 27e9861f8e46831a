"""`fedcall aggregator status --watch` in a terminal: what the coordinator's operator sees change."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from safetensors.numpy import save

from consortium import make_consortium
from fedcall.federation.aggregator.service import holding
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.aggregator.status_view import show
from fedcall.keys import read_signing_key
from fedcall.weights import read_weights

_SECONDS = 600.0


class Terminal:
    """The screen of a program, as far as it has written to it, and its keyboard."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.screen = ""

    def wait_for(self, pattern: str) -> str:
        """Read on until what came since the last call matches; return it without the terminal's control codes."""
        end, seen = time.monotonic() + _SECONDS, ""
        while not re.search(pattern, seen):
            assert time.monotonic() < end, f"not seen: {pattern}; seen: {seen}"
            if select.select([self._descriptor], [], [], 1)[0]:
                self.screen += os.read(self._descriptor, 65536).decode()
                seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen)
        self.screen = ""
        return seen

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)


@contextmanager
def in_terminal(*arguments: object) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Run fedcall as if typed in a terminal of 80 columns, which Ctrl-C comes from."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    command = [sys.executable, "-m", "fedcall", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm"}

    def log_in() -> None:
        os.login_tty(inside)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background of a shell ignores it

    process = subprocess.Popen(command, pass_fds=[inside], preexec_fn=log_in, env=environment)
    os.close(inside)
    try:
        yield Terminal(outside), process
    finally:
        process.kill()
        process.wait()
        os.close(outside)


@pytest.mark.skipif(not hasattr(os, "login_tty"), reason="needs a terminal of its own (Unix)")
def test_status__watch_shows_answers_as_they_come_until_ctrl_c(tmp_path):
    consortium = make_consortium(tmp_path, rounds=1)
    key = read_signing_key(consortium.keys("coordinator"))
    state = StudyState(consortium.state, consortium.study, key, consortium.initial)
    base = read_weights(consortium.initial)

    def answer(site: str, **changes: object) -> None:
        update = consortium.update(site, 1, base)
        claim = consortium.claim(site, 1, base.digest, update, **changes)
        state.answer(site, 1, consortium.sign_claim(claim, site), save(update))

    with in_terminal("aggregator", "status", "--state", consortium.state, "--watch") as (terminal, process):
        first = terminal.wait_for(r"south +awaited")
        assert "study tiny: round 1 of 1, aggregator not running" in first
        assert "waits for north, south" in first
        answer("south")
        assert re.search(r"north +awaited", terminal.wait_for(r"south +accepted"))
        answer("north", epsilon=0.01)
        assert "the claim says epsilon 0.01" in terminal.wait_for(r"north, round 1, epsilon: .*\n")
        state.close_round_if_due()
        terminal.wait_for(r"study tiny: done[^$]*change of the model: round 1 \d[\d.e-]* %")
        assert process.poll() is None, "it goes on until told to stop"
        terminal.press(b"\x03")
        assert process.wait(_SECONDS) == 0


def test_status__of_an_aggregator_that_has_no_address_yet(tmp_path, capsys):
    consortium = make_consortium(tmp_path, rounds=1)
    key = read_signing_key(consortium.keys("coordinator"))
    StudyState(consortium.state, consortium.study, key, consortium.initial).prepare()
    with holding(consortium.state):
        show(consortium.state)
    assert "aggregator starting" in capsys.readouterr().out
