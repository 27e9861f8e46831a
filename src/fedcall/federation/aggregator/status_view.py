"""The coordinator's view of a study in a terminal: at most 80 columns, once or live."""

import datetime
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedcall.federation.aggregator.model_change import model_change
from fedcall.federation.aggregator.operation import refusals, study_status
from fedcall.shown import shown

_EVERY_SECONDS = 1.0
_LAST_REFUSALS = 5
_LAST_CHANGES = 3
_WIDTH = 80
_LINE_CHARACTERS = 400
_HIDDEN = {
    "masked": "updates are masked: only a round's sum is seen, no single update",
    "encrypted": "updates are masked and encrypted: only a round's sum is seen, no single update",
    "sealed": "updates are sealed: only the enclave opens them, and averages leave it",
}


def show(state: Path) -> None:
    """Print the status once."""
    _console().print(_view(state))


def show_live(state: Path) -> None:
    """Show the status until Ctrl-C, looking every second."""
    with suppress(KeyboardInterrupt), Live(_view(state), console=_console(), auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_SECONDS)
            live.update(_view(state), refresh=True)


def _console() -> Console:
    console = Console(highlight=False)
    return Console(highlight=False, width=min(console.width, _WIDTH))


def _view(state: Path) -> Group:
    found = study_status(state)
    parts: list[Text | Table] = [Text(shown(line, _LINE_CHARACTERS)) for line in _heading(found)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("site", "this round", "last online"):
        table.add_column(name, overflow="fold")
    for name in ("accepted", "refused"):
        table.add_column(name, justify="right")
    for site in found["sites"]:
        answer = "quarantined" if site["quarantined"] else site["answer"] or ("" if found["done"] else "awaited")
        counts = (str(site["accepted_rounds"]), str(site["refusals"]))
        table.add_row(Text(shown(site["site"])), Text(shown(answer)), _ago(site["last_seen"]), *counts)
    parts.append(table)
    parts += [Text(line) for line in _helpers(found)]
    parts += [Text(line) for line in _changes(state, found)]
    last = refusals(state)[-_LAST_REFUSALS:]
    if last:
        parts.append(Text("last refusals (all: fedcall quarantine list)", style="bold"))
    for row in last:
        line = f"{row['site']}, round {row['round']}, {row['reason']}: {row['sentence']}"
        parts.append(Text(shown(line, _WIDTH)))
    return Group(*parts)


def _heading(found: dict[str, Any]) -> list[str]:
    alive = f"alive at {found['address']}" if found["address"] else "starting" if found["alive"] else "not running"
    progress = "done" if found["done"] else f"round {found['open_round']} of {found['rounds']}"
    lines = [f"study {found['study']}: {progress}, aggregator {alive}"]
    if found["closed"]:
        closed = found["closed"]
        lines.append(f"closed after round {closed['round']} by {closed['operator']}: {closed['reason']}")
    if not found["done"]:
        awaited = found["awaited"]
        few = ", ".join(awaited[:3]) + (f" and {len(awaited) - 3} more" if len(awaited) > 3 else "")
        lines.append(f"waits for {few or 'nobody'}; may close without them at {found['closes_at'][:16]} UTC")
    return lines


def _helpers(found: dict[str, Any]) -> list[str]:
    """Return a line for each helper, and one that says that no single update is seen."""
    if found["protection"] not in _HIDDEN:
        return []
    lines = [_HIDDEN[found["protection"]]]
    for helper in found["helpers"]:
        does = "has answered the order" if helper["answered"] else "is awaited" if found["sum_ordered"] else "is ready"
        lines.append(f"helper {helper['helper']} {does}, last online {_ago(helper['last_seen'])}")
        if helper["refusal"]:
            lines.append(f"  does not answer: {helper['refusal']}")
    if found["void_rounds"]:
        lines.append(f"void rounds: {', '.join(map(str, found['void_rounds']))} (fedcall aggregator log show)")
    return [shown(line, _WIDTH) for line in lines]


def _changes(state: Path, found: dict[str, Any]) -> list[str]:
    """Return how much the last closed rounds changed the model, in one line; none before the first is closed."""
    closed = found["open_round"] - 1
    told = []
    for number in range(max(1, closed - _LAST_CHANGES + 1), closed + 1):
        share = model_change(state, number).relative
        told.append(f"round {number} " + ("from zero" if share is None else f"{100 * share:.2g} %"))
    return [f"change of the model: {', '.join(told)}"] if told else []


def _ago(moment: str | None) -> str:
    if moment is None:
        return "never"
    passed = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(moment)
    seconds = max(int(passed.total_seconds()), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
