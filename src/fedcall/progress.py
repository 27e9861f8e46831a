"""Progress of long work on stderr: a bar on a terminal; in a log a line now and then, and none about short work.

A loop says what it has done; who looks is found out here:

    with progress("pileup", total=3.1, unit="Mb") as done:
        for stretch in stretches:
            ...
            done.advance(0.5)

    for patient in tracked(patients, "simulation", unit="patients"):
        ...
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from fedcall.shown import shown

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LINE_EVERY = 10.0
"""Seconds of silence in a log, at least. Work that ends sooner says nothing there."""
_DRAW_EVERY = 0.1

Item = TypeVar("Item")


class Progress(Protocol):
    """What a loop tells about itself."""

    def advance(self, amount: float = 1.0) -> None:
        """Say that `amount` more, in the unit of the total, is done."""

    def set_total(self, total: float) -> None:
        """Say how much there is to do, if that was not known before."""


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "") -> Iterator[Progress]:
    """Show the progress of the work inside the block on stderr; worker processes stay silent.

    Parameters
    ----------
    label : str
        What is being done.
    total : float, optional
        How much there is to do, in `unit`; without it there is a rate, but no time left.
    unit : str
        Plural, for example "steps" or "Mb".
    """
    if _silenced or multiprocessing.parent_process() is not None:
        yield _Silence()
    elif _bars is not None or (sys.stderr.isatty() and os.environ.get("TERM") != "dumb"):
        with _bar(label, total, unit) as bar:
            yield bar
    else:
        lines = ProgressLines(label, total, unit)
        yield lines
        lines.finish()


@contextmanager
def silence() -> Iterator[None]:
    """Show nothing of the progress inside the block: drawing would be measured."""
    global _silenced
    before, _silenced = _silenced, True
    try:
        yield
    finally:
        _silenced = before


def tracked(items: Iterable[Item], label: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yield items and show how many the loop is through; the total is their number if they are a sequence."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    with progress(label, total, unit) as done:
        for item in items:
            yield item
            done.advance()


def figures(done: float, total: float | None, unit: str, seconds: float) -> str:
    """Return, for example, "12 of 60 steps (20 %), 3.1 steps/s, 15 s left"; what cannot be known is left out."""
    parts = [f"{_number(done)} {unit}".rstrip()]
    if total:
        parts[0] = f"{_number(done)} of {_number(total)} {unit}".rstrip() + f" ({100 * done / total:.0f} %)"
    if done > 0 and seconds > 0:
        rate = done / seconds
        parts.append(f"{_number(rate)} {unit}/s" if rate >= 0.1 else f"{_number(60 * rate)} {unit}/min")
        if total:
            parts.append(f"{duration(max(total - done, 0) / rate)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as people say them: "45 s", "12 min", "3 h 05 min".

    Examples
    --------
    >>> duration(45), duration(720), duration(11_100)
    ('45 s', '12 min', '3 h 05 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class ProgressLines:
    """Progress as lines for a log, `LINE_EVERY` seconds apart at least."""

    def __init__(self, label: str, total: float | None, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._total, self._unit, self._clock = label, total, unit, clock
        self._done = 0.0
        self._start = self._said = clock()

    def advance(self, amount: float = 1.0) -> None:
        """Count, and say so if nothing was said for long."""
        self._done += amount
        now = self._clock()
        if now - self._said >= LINE_EVERY:
            self._said = now
            self._say(figures(self._done, self._total, self._unit, now - self._start))

    def set_total(self, total: float) -> None:
        """Set how much there is to do."""
        self._total = total

    def finish(self) -> None:
        """Say what was done and how long it took, if it took long."""
        seconds = self._clock() - self._start
        if seconds >= LINE_EVERY:
            rate = figures(self._done, None, self._unit, seconds).partition(", ")[2]
            self._say(f"{_number(self._done)} {self._unit}".rstrip() + f" in {duration(seconds)}, {rate}")

    def _say(self, text: str) -> None:
        print(f"{shown(self._label)}: {text}", file=sys.stderr, flush=True)


class _Silence:
    def advance(self, amount: float = 1.0) -> None:
        pass

    def set_total(self, total: float) -> None:
        pass


class _Bar:
    """One bar among those on the terminal."""

    def __init__(self, bars: "Bars", label: str, total: float | None, unit: str) -> None:
        self._bars, self._drawn = bars, 0.0
        self.task = bars.add_task(shown(label), total=total, unit=unit)
        bars.refresh()

    def advance(self, amount: float = 1.0) -> None:
        self._bars.advance(self.task, amount)
        # Drawn from here and not by a thread of rich's: worker processes are forked inside such loops.
        if time.monotonic() - self._drawn >= _DRAW_EVERY:
            self._drawn = time.monotonic()
            self._bars.refresh()

    def set_total(self, total: float) -> None:
        self._bars.update(self.task, total=total)


_silenced = False
_bars: "Bars | None" = None  # of the outermost loop; a loop inside another adds a bar below


@contextmanager
def _bar(label: str, total: float | None, unit: str) -> Iterator[_Bar]:
    global _bars
    if _bars is not None:
        bar = _Bar(_bars, label, total, unit)
        try:
            yield bar
        finally:
            _bars.remove_task(bar.task)
        return
    with _new_bars() as _bars:
        try:
            yield _Bar(_bars, label, total, unit)
        finally:
            _bars = None


def _new_bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class NumbersColumn(ProgressColumn):
        def __init__(self) -> None:
            super().__init__(Column(no_wrap=True))

        def render(self, task: Task) -> Text:
            return Text(figures(task.completed, task.total, task.fields["unit"], task.elapsed or 0.0))

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        NumbersColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,  # what a command prints may go to a file
    )


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
