"""`snakemake --logger fedcall`: how far a run is, in a terminal and in a log, and what failed."""

import logging
import os
import pty
import re
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from forked import run_forked
from rehearsal_workspace import BIN
from snakemake_logger_plugin_fedcall import LAST_LINES, LogHandler, last_lines
from snakemake_logger_plugin_fedcall.progress import RunProgress
from snakemake_logger_plugin_fedcall.terminal import LINE_EVERY, RunLines, figures

SNAKEFILE = """
rule all:
    input: expand("done/{site}.{round}", site=["north", "south"], round=[1, 2])
rule fetch_global:
    input: lambda wildcards: expand("done/{site}.1", site=["north", "south"]) if wildcards.round == "2" else []
    output: "models/{round}"
    message: "Round {wildcards.round}: fetching the global model"
    shell: "touch {output}"
rule train_round:
    input: "models/{round}"
    output: "done/{site}.{round}"
    log: "logs/{site}.{round}.log"
    shell:
        "seq 1 100 > {log}; echo fedcall: the disk is full >> {log};"
        " sleep $TAKES; test {wildcards.site} != $FAILS; touch {output}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    return tmp_path


def command(*options: str) -> list[str]:
    return [str(BIN / "snakemake"), "--cores", "2", "--logger", "fedcall", "--show-failed-logs", *options]


def run_in_pipe(folder: Path, *options: str, fails: str = "none") -> subprocess.CompletedProcess[str]:
    return run_forked(
        "snakemake",
        *command(*options)[1:],
        cwd=folder,
        env=os.environ | {"FAILS": fails, "TAKES": "0"},
        together=True,
    )


def run_in_terminal(folder: Path, fails: str = "none") -> tuple[int, str]:
    """Return exit status and everything a terminal of 120 columns was sent."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"FAILS": fails, "TAKES": "1", "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command(), cwd=folder, env=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                seen.append(chunk)
        except OSError:  # the terminal is gone with its last process
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(timeout=600)
    finally:
        process.kill()
        reader.join(timeout=120)
        os.close(ours)
    return code, b"".join(seen).decode(errors="replace")


def test_logger__in_a_pipe_says_little_and_plainly(folder):
    result = run_in_pipe(folder)
    assert result.returncode == 0, result.stdout
    assert "\x1b" not in result.stdout
    assert "Round 2: fetching the global model" in result.stdout
    assert "7 of 7 jobs, round 2 of 2" in result.stdout
    for chatter in ("Execute 1 jobs", "Select jobs", "Finished jobid", "rule train_round:"):
        assert chatter not in result.stdout
    (log,) = folder.glob(".snakemake/log/*.log")
    assert log.read_text().count("Finished jobid") == 7, "Snakemake's own log has everything"
    assert "Nothing to be done" in run_in_pipe(folder).stdout


def test_logger__in_a_terminal_draws_a_bar(folder):
    code, seen = run_in_terminal(folder)
    assert code == 0, seen
    assert re.search(r"━.*\d of 7 jobs, round \d of 2", seen), "a bar, with jobs and rounds"
    assert re.search(r"train_round at (north|south)", seen), "what runs, and where"
    assert "Round 1: fetching the global model" in seen
    assert seen.rstrip().endswith("7 of 7 jobs, round 2 of 2")
    assert "\x1b[?25h" in seen, "the cursor is back"


@pytest.mark.parametrize("terminal", [False, True])
def test_logger__a_failure_shows_rule_log_and_what_to_do(folder, terminal):
    if terminal:
        code, seen = run_in_terminal(folder, fails="south")
    else:
        result = run_in_pipe(folder, fails="south")
        code, seen = result.returncode, result.stdout
    assert code == 1
    assert "Error in rule train_round:" in seen
    assert f"logs/south.1.log: (its last {LAST_LINES} lines of 101)" in seen
    assert "fedcall: the disk is full" in seen
    assert re.search(r"^\S* {4}100\b", seen, re.MULTILINE)
    assert seen.count("What to do:") == 1


def test_logger__a_dry_run_is_snakemakes(folder):
    result = run_in_pipe(folder, "--dry-run")
    assert "rule train_round:" in result.stdout
    assert "This was a dry-run" in result.stdout


def test_logger__quiet_about_progress_says_no_figures(folder):
    result = run_in_pipe(folder, "--quiet", "progress", "rules")
    assert result.returncode == 0
    assert "of 7 jobs" not in result.stdout


def test_logger__a_group_of_cluster_jobs_that_failed_names_its_rules(capsys):
    settings = SimpleNamespace(
        **dict.fromkeys(("dryrun", "verbose", "printshellcmds", "debug_dag", "stdout"), False),
        quiet=None,
        nocolor=True,
        show_failed_logs=True,
    )
    handler = LogHandler(settings, None)
    failed = {"rule_name": "train_round", "jobid": 3, "output": ["update"], "log": ["train.log"]}
    facts = {"event": LogEvent.GROUP_ERROR, "groupid": "round-1", "aux_logs": [], "job_error_info": [failed]}
    record = {"msg": "Error in group round-1", "levelno": logging.ERROR, "levelname": "ERROR"}
    handler.emit(logging.makeLogRecord(facts | record))
    handler.emit(logging.makeLogRecord({"event": LogEvent.GROUP_INFO, "msg": "Group job round-2", "levelno": 20}))
    said = capsys.readouterr().err
    assert "rule train_round:" in said
    assert "train.log" in said
    assert said.count("What to do:") == 1
    assert "round-2" not in said


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def planned(clock: Clock) -> RunProgress:
    progress = RunProgress(clock)
    progress.plan({"extract_pileup": 4, "fetch_global": 2, "train_round": 4, "total": 10})
    return progress


def play(progress: RunProgress, clock: Clock, job: int, rule: str, seconds: float, **wildcards: str) -> None:
    progress.start(job, rule, wildcards)
    clock.now += seconds
    progress.finish(job)
    progress.done += 1


def test_progress__time_left_is_that_of_the_rules_still_to_run():
    clock = Clock()
    progress = planned(clock)
    assert progress.seconds_left() is None, "nothing is known yet"
    for job in range(4):
        play(progress, clock, job, "extract_pileup", 10.0, site="north")
    assert progress.seconds_left() == pytest.approx(6 * 10), "as the average job"
    play(progress, clock, 4, "fetch_global", 1.0, round="1")
    play(progress, clock, 5, "train_round", 5.0, site="north", round="1")
    assert progress.seconds_left() == pytest.approx(1 * 1 + 3 * 5)
    assert figures(progress) == "6 of 10 jobs, round 1 of 2, about 16 s left"


def test_progress__two_at_a_time_take_half_as_long():
    clock = Clock()
    progress = planned(clock)
    for pair in ((0, 1), (2, 3)):
        for job in pair:
            progress.start(job, "extract_pileup", {})
        clock.now += 10
        for job in pair:
            progress.finish(job)
    assert progress.seconds_left() == pytest.approx(6 * 10 / 2)


def test_progress__a_run_that_goes_on_counts_rounds_from_where_it_is():
    progress = planned(Clock())
    progress.start(0, "fetch_global", {"round": "4"})
    assert (progress.round, progress.rounds) == (4, 5)


def test_progress__names_few_hospitals():
    progress = planned(Clock())
    for job, site in enumerate("abcde"):
        progress.start(job, "train_round", {"site": site, "round": "1"})
    assert progress.now() == "train_round at a, b, c …"


def test_lines__are_apart_and_the_last_is_written(tmp_path):
    clock = Clock()
    progress = planned(clock)
    with (tmp_path / "log").open("w") as stream:
        lines = RunLines(stream, progress, clock)
        for done in range(1, 11):
            clock.now += LINE_EVERY / 4
            progress.done = done
            lines.show()
    written = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(",")[0] for line in written] == ["4 of 10 jobs", "8 of 10 jobs", "10 of 10 jobs"]


def test_last_lines__control_characters_are_shown(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("first\x1b[2J\nlast\n")
    assert last_lines(str(log)) == f"Logfile {log}:\n    first\\x1b[2J\n    last"
    assert "not there" in last_lines(str(tmp_path / "none"))
