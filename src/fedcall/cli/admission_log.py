"""`fedcall aggregator log`: look at the admission log, and check it."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError
from fedcall.shown import shown

_STATE = typer.Option(None, "--state", help="State folder of the aggregator.")
_LOG = typer.Option(None, "--log", help="The log as a site fetched it ('fedcall fetch-log'), in place of --state.")


def log_commands() -> typer.Typer:
    """Return the `log show|verify` commands."""
    log = typer.Typer(no_args_is_help=True, help="The hash-chained log of every decision.")
    log.command("show")(show)
    log.command("verify")(verify)
    return log


def show(
    state: Path | None = _STATE,
    log: Path | None = _LOG,
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Show every decision, round and intervention, oldest first.

    Example: fedcall aggregator log show --state state
    """
    import json

    from fedcall.study.log_reading import log_rows, read_log

    rows = log_rows(read_log(_path(state, log)))
    if as_json:
        say_block(json.dumps(rows, indent=2))
        return
    for row in rows:
        say(f"{row['time'][:16]}  {row['head'][:8]}  {shown(row['what'], 600)}")


def verify(
    state: Path | None = _STATE,
    log: Path | None = _LOG,
    study: Path | None = typer.Option(None, "--study", help="Signed study (study.json); with --site and --rounds."),
    site: str | None = typer.Option(None, "--site", help="Name of the site whose receipts are held against the log."),
    rounds: Path | None = typer.Option(None, "--rounds", help="That site's results/STUDY/SITE/rounds."),
) -> None:
    """Check that no line of the log was changed, left out or put in; with a site's receipts, that they all stand in it.

    Example: fedcall aggregator log verify --log admission.jsonl --study study.json --site north
    --rounds results/pilot/north/rounds
    """
    from fedcall.study.log_reading import check_receipts, read_log

    path = _path(state, log)
    lines = read_log(path)
    head = f"head {lines[-1].head[:16]}…" if lines else "empty"
    say(f"{path}: {len(lines)} lines, one chain ({head})")
    if (study, site, rounds) == (None, None, None):
        return
    if study is None or site is None or rounds is None:
        raise FedcallError("--study, --site and --rounds belong together; give all three or none")
    from fedcall.study.terms import read_study

    count = check_receipts(lines, read_study(study), site, rounds)
    say(f"{rounds}: {count} receipts of site '{site}', all in the log")


def _path(state: Path | None, log: Path | None) -> Path:
    if (state is None) == (log is None):
        raise FedcallError("give either --state FOLDER (at the aggregator) or --log FILE (at a site)")
    return log if log is not None else Path(str(state)) / "admission.jsonl"
