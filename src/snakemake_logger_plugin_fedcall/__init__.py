"""Snakemake logger plugin: how far a run is, in place of three lines per job. `snakemake --logger fedcall`.

On a terminal a bar at the bottom shows jobs, round, what runs where, and the time left. Elsewhere (a file, a pipe) a
plain line appears now and then. Messages of rules, warnings and errors are printed as they come; Snakemake's own log in
`.snakemake/log` holds everything. A dry run, and runs with `--verbose`, `--printshellcmds` or `--debug-dag`, print as
Snakemake does.
"""

import logging
import sys
from pathlib import Path
from typing import TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from fedcall.shown import LOG_LINE_CHARACTERS, shown, shown_block
from snakemake_logger_plugin_fedcall.progress import RunProgress
from snakemake_logger_plugin_fedcall.terminal import Bar, RunLines

# Snakemake's words about itself, of no use to who waits for a run. What is not named here is printed.
CHATTER = (
    "Assuming unrestricted shared filesystem",
    "Using shell:",
    "Group jobs: inactive",
    "Conda environments: ignored",
    "Singularity containers: ignored",
    "Select jobs to execute",
    "Updating checkpoint dependencies",
    "Write-protecting output file",
)
SILENT = {
    LogEvent.SHELLCMD,
    LogEvent.GROUP_INFO,
    LogEvent.RESOURCES_INFO,
    LogEvent.RULEGRAPH,
    LogEvent.WORKFLOW_STARTED,
}
LAST_LINES = 20
ADVICE = (
    "What to do: the lines of the log above say what is wrong. Mend it and run the same command again: jobs that are"
    " done stay done."
)


class LogHandler(LogHandlerBase):
    """Shows a run's progress on the terminal."""

    def __post_init__(self) -> None:
        # Imported here: Snakemake looks at every logger plugin at every start.
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        settings = self.common_settings
        self.stream: TextIO = sys.stdout if settings.stdout else sys.stderr
        self.as_snakemake = bool(settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag)
        self._filter = DefaultFilter(
            settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        )
        self._formatter = DefaultFormatter(settings.quiet, self.as_snakemake and settings.show_failed_logs)
        self._whole = ColorizingTextHandler(settings.nocolor, self.stream, self._formatter)
        self._shows_logs = settings.show_failed_logs
        self._advised = False
        self.progress = RunProgress()
        quiet = {str(getattr(choice, "name", choice)).lower() for choice in settings.quiet or ()}
        if quiet & {"all", "progress"}:
            self.display: RunLines | Bar | None = None
        elif self.stream.isatty() and not self.as_snakemake:
            self.display = Bar(self.stream, self.progress, settings.nocolor)
        else:
            self.display = RunLines(self.stream, self.progress)

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.as_snakemake:
                if self._filter.filter(record):
                    self._whole.emit(record)
                return
            self._note(record)
            text = self._text(record)
            if text:
                self._print(text, record.levelno)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        if getattr(self, "display", None) is not None:
            self.display.close()
        super().close()

    def _note(self, record: logging.LogRecord) -> None:
        """Count what the record says of jobs, and show it."""
        event, facts = getattr(record, "event", None), record.__dict__
        if event == LogEvent.RUN_INFO:
            self.progress.plan(facts.get("stats") or {})
        elif event == LogEvent.JOB_INFO:
            self.progress.start(facts["jobid"], facts["rule_name"], facts["wildcards"] or {})
        elif event == LogEvent.JOB_FINISHED:
            self.progress.finish(facts["job_id"])
        elif event == LogEvent.JOB_ERROR:
            self.progress.running.pop(facts["jobid"], None)
        elif event == LogEvent.PROGRESS:
            self.progress.done, self.progress.total = facts["done"], facts["total"]
        else:
            return
        if self.display is not None:
            self.display.show()

    def _text(self, record: logging.LogRecord) -> str:
        """Return what a person should read of a record; nothing of most."""
        event, facts = getattr(record, "event", None), record.__dict__
        if event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR):
            return self._failure(record)
        if record.levelno >= logging.WARNING:
            return self._formatter.format(record)
        if event == LogEvent.JOB_INFO:
            return str(facts["rule_msg"] or "") if self._filter.filter(record) or self._speaks() else ""
        if event in SILENT or event in (LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS):
            return ""
        text = self._formatter.format(record) if self._filter.filter(record) else ""
        return "" if text.startswith(CHATTER) else text

    def _speaks(self) -> bool:
        return self.display is not None

    def _failure(self, record: logging.LogRecord) -> str:
        """Return what failed, the last lines of its logs, and, once a run, what to do."""
        text = self._formatter.format(record)
        if self._shows_logs:
            logs = list(record.__dict__.get("log") or record.__dict__.get("aux_logs") or ())
            text = "\n".join([text, *map(last_lines, logs)])
        if not self._advised:
            self._advised = True
            text = f"{text}\n{ADVICE}"
        return text

    def _print(self, text: str, level: int) -> None:
        text = shown_block(text.expandtabs(4))  # the last lines of a log, too, which may quote anybody's file
        if isinstance(self.display, Bar):
            self.display.print(text, level)
        else:
            self.stream.write(f"{text}\n")
            self.stream.flush()


def last_lines(log: str) -> str:
    """Return the last lines of a job's log under its name, or why there are none."""
    try:
        lines = Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return f"Logfile {log}: not there"
    if not lines:
        return f"Logfile {log}: empty file"
    left_out = f" (its last {LAST_LINES} lines of {len(lines)})" if len(lines) > LAST_LINES else ""
    return "\n".join(
        [f"Logfile {log}:{left_out}", *(f"    {shown(line, LOG_LINE_CHARACTERS)}" for line in lines[-LAST_LINES:])]
    )
