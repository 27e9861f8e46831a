"""What a run has done and has still to do, counted from Snakemake's events; knows of no terminal."""

import collections
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ROUNDS_BY = "fetch_global"  # one job a round, in order
AT_MOST_NAMED = 3


@dataclass(frozen=True)
class RunningJob:
    """A job that has started."""

    rule: str
    site: str
    round: str
    started: float


@dataclass
class RunProgress:
    """The jobs of a run: planned, running, done.

    Parameters
    ----------
    clock : callable
        Returns seconds that only grow.
    """

    clock: Callable[[], float] = time.monotonic
    done: int = 0
    total: int = 0
    round: int = 0
    rounds: int = 0
    planned: dict[str, int] = field(default_factory=dict)
    running: dict[int, RunningJob] = field(default_factory=dict)
    _seconds: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    _started: float | None = None

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Take the table of Snakemake: jobs by rule, with their `total`."""
        self.planned = {rule: count for rule, count in jobs.items() if rule != "total"}
        self.total = sum(self.planned.values())
        self._started = self.clock()

    def start(self, job: int, rule: str, wildcards: Mapping[str, str]) -> None:
        """Note that a job starts; the first exchange of a run tells how many rounds there are."""
        number = str(wildcards.get("round", ""))
        if rule == ROUNDS_BY and number.isdigit():
            if not self.rounds:
                self.rounds = int(number) - 1 + self.planned.get(ROUNDS_BY, 1)
            self.round = max(self.round, int(number))
        self.running[job] = RunningJob(rule, str(wildcards.get("site", "")), number, self.clock())

    def finish(self, job: int) -> None:
        """Note that a job is done; one that is unknown counts for nothing."""
        ended = self.running.pop(job, None)
        if ended is not None:
            self._seconds[ended.rule].append(self.clock() - ended.started)

    def now(self) -> str:
        """Return what runs: rules, and the hospitals they run at."""
        parts = []
        for rule in dict.fromkeys(job.rule for job in self.running.values()):
            jobs = [job for job in self.running.values() if job.rule == rule]
            sites = sorted({job.site for job in jobs if job.site})
            where = f" at {', '.join(sites[:AT_MOST_NAMED])}{' …' * (len(sites) > AT_MOST_NAMED)}" if sites else ""
            parts.append(f"{rule}{where}")
        return "; ".join(parts)

    def seconds_left(self) -> float | None:
        """Return about how long the rest takes, or nothing while too little is known.

        A rule's jobs take as long as those that are done; of a rule of which none is, as long as the average job. As
        many run at a time as did until now.
        """
        ended = sum(map(len, self._seconds.values()))
        if self._started is None or ended < 3:
            return None
        spent = sum(map(sum, self._seconds.values()))
        each = {rule: sum(seconds) / len(seconds) for rule, seconds in self._seconds.items()}
        left = sum(
            (count - len(self._seconds.get(rule, ()))) * each.get(rule, spent / ended)
            for rule, count in self.planned.items()
        )
        side_by_side = max(spent / max(self.clock() - self._started, 1e-6), 1e-6)
        return max(left, 0.0) / side_by_side
