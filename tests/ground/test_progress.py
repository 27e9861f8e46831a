"""Progress of long work: a bar on a terminal, few lines in a log, nothing where nobody looks."""

import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from fedcall.progress import LINE_EVERY, ProgressLines, duration, figures, progress, silence, tracked

_LOOP = """
import sys, time
from fedcall.progress import progress, tracked
for outer in tracked(["a", "b"], "parts", unit="parts"):
    with progress("training", unit="steps") as done:
        done.set_total(4)
        for _ in range(4):
            time.sleep(0.03)
            done.advance()
print("result")
"""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("done", "total", "seconds", "expected"),
    [
        (12, 60, 4, "12 of 60 steps (20 %), 3 steps/s, 16 s left"),
        (12.5, 60, 4, "12.5 of 60 steps (21 %), 3.12 steps/s, 15 s left"),
        (3, 6, 600, "3 of 6 steps (50 %), 0.30 steps/min, 10 min left"),
        (0, 60, 4, "0 of 60 steps (0 %)"),
        (5, None, 10, "5 steps, 0.50 steps/s"),
        (70, 60, 7, "70 of 60 steps (117 %), 10 steps/s, 0 s left"),
    ],
)
def test_figures__rate_and_time_left(done: float, total: float | None, seconds: float, expected: str) -> None:
    assert figures(done, total, "steps", seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min"), (11100, "3 h 05 min")],
)
def test_duration__as_people_say_it(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_lines__one_in_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("training", 100, "steps", clock)
    for _ in range(100):
        clock.now += 0.25
        lines.advance()
    lines.finish()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "training: 40 of 100 steps (40 %), 4 steps/s, 15 s left",
        "training: 80 of 100 steps (80 %), 4 steps/s, 5 s left",
        "training: 100 steps in 25 s, 4 steps/s",
    ]


def test_lines__short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("training", None, "steps", clock)
    clock.now += LINE_EVERY - 0.1
    lines.advance()
    lines.finish()
    assert capsys.readouterr().err == ""


def test_lines__work_that_fails_does_not_claim_an_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcall.progress.LINE_EVERY", 0.0)

    def fail() -> None:
        with progress("training", 2, "steps") as done:
            done.advance()
            raise RuntimeError("the third step")

    with pytest.raises(RuntimeError, match="the third step"):
        fail()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["training: 1 of 2 steps (50 %)"]


def test_tracked__yields_what_it_is_given() -> None:
    assert list(tracked([3, 1, 2], "numbers", "numbers")) == [3, 1, 2]
    assert list(tracked(iter("ab"), "letters", "letters", total=2)) == ["a", "b"]
    assert list(tracked([], "nothing", "things")) == []


def test_progress__a_log_gets_no_control_characters() -> None:
    # FORCE_COLOR makes rich believe in a terminal.
    environment = {**os.environ, "FORCE_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", _LOOP], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("result\n", "")


def test_progress__a_terminal_gets_bars_and_is_left_clean() -> None:
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    done = subprocess.run(
        [sys.executable, "-c", _LOOP], stdout=subprocess.PIPE, stderr=terminal, text=True, check=True, env=environment
    )
    os.close(terminal)
    drawn = _read(main)
    assert done.stdout == "result\n"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert "1 of 2 parts (50 %)" in plain
    assert re.search(r"training\W+[1-4] of 4 steps \(\d+ %\), [\d.]+ steps/s, \d s left", plain)
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80
    assert drawn.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, the last bar's line is wiped


def _read(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(descriptor)
    return b"".join(parts).decode()


def _kind(_: int) -> str:
    with progress("inside a worker") as done:
        done.advance()
        return type(done).__name__


def test_silence__measurements_draw_nothing() -> None:
    with silence():
        assert _kind(1) == "_Silence"
    assert _kind(1) == "ProgressLines"


def test_progress__workers_are_silent() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_kind, [1])) == ["_Silence"]
    assert _kind(1) == "ProgressLines"
