"""Where progress is shown: a bar at the bottom of a terminal, or lines in a log."""

import logging
import time
from collections.abc import Callable
from typing import TextIO

from fedcall.progress import duration
from snakemake_logger_plugin_fedcall.progress import RunProgress

LINE_EVERY = 20.0
"""Seconds between two lines in a log, at least."""
_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def figures(progress: RunProgress) -> str:
    """Return how far a run is: jobs, round, time left; what is not known is left out."""
    parts = [f"{progress.done} of {progress.total} jobs"]
    if progress.round:
        parts.append(f"round {progress.round} of {progress.rounds}")
    left = progress.seconds_left()
    if left is not None and progress.done < progress.total:
        parts.append(f"about {duration(left)} left")
    return ", ".join(parts)


class RunLines:
    """A line now and then, and one when all is done."""

    def __init__(self, stream: TextIO, progress: RunProgress, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._progress, self._clock = stream, progress, clock
        self._said_at = clock()
        self._said_done = 0

    def show(self) -> None:
        """Write a line if the last one is long ago, or all is done."""
        progress, now = self._progress, self._clock()
        ended = 0 < progress.total == progress.done
        if progress.done == self._said_done or (now - self._said_at < LINE_EVERY and not ended):
            return
        self._said_at, self._said_done = now, progress.done
        running = progress.now()
        self._stream.write(f"{figures(progress)}{f'; now {running}' if running else ''}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing stays open."""


class Bar:
    """A bar at the bottom of a terminal; what is printed appears above it."""

    def __init__(self, stream: TextIO, progress: RunProgress, nocolor: bool = False) -> None:
        # Imported here: who writes into a log draws nothing.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        self._progress = progress
        self._console = Console(file=stream, no_color=nocolor, highlight=False, soft_wrap=True)
        self._bars = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}", markup=False),
            TextColumn(
                "{task.fields[running]}",
                markup=False,
                style="dim",
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
            console=self._console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
        )
        self._task: int | None = None

    def show(self) -> None:
        """Draw the bar as the run is now; it begins with the first job that is planned."""
        progress = self._progress
        if not progress.total:
            return
        facts = {"figures": figures(progress), "running": progress.now()}
        if self._task is None:
            self._task = self._bars.add_task("", total=progress.total, **facts)
            self._bars.start()
        self._bars.update(self._task, completed=progress.done, total=progress.total, **facts)

    def print(self, text: str, level: int) -> None:
        """Write text above the bar, as it is."""
        self._console.print(text, style=_STYLES.get(level), markup=False)

    def close(self) -> None:
        """Take the bar away; the last figures stay."""
        if self._task is not None:
            self._bars.stop()
            self._console.print(figures(self._progress), markup=False)
            self._task = None
