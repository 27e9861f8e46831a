"""Read the admission log, at the aggregator or as a site fetched it: in words, and against a site's receipts."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedcall.documents import read_signed, read_unverified
from fedcall.errors import FedcallError
from fedcall.study.admission_log import (
    Closed,
    Concluded,
    Decided,
    Entry,
    Fetched,
    Hidden,
    Judged,
    LogLine,
    Opened,
    Ordered,
    read_lines,
)
from fedcall.study.claims import Receipt
from fedcall.study.sum_orders import SumOrder
from fedcall.study.terms import Study


def read_log(path: Path) -> list[LogLine]:
    """Read a log or an extract; FedcallError if it is missing or a line does not continue the chain."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no admission log here") from None
    if content and not content.endswith(b"\n"):
        content = content[: content.rfind(b"\n") + 1]  # a line cut short by a kill never counted
    return list(read_lines(content, str(path)))


def log_rows(lines: Sequence[LogLine]) -> list[dict[str, Any]]:
    """Return the lines in words, ready for JSON."""
    return [
        {
            "time": datetime.datetime.fromtimestamp(line.seconds, datetime.UTC).isoformat(),
            "head": line.head,
            "what": _words(line.entry),
            "entry": line.entry.model_dump(mode="json"),
        }
        for line in lines
    ]


def check_receipts(lines: Sequence[LogLine], study: Study, site: str, rounds: Path) -> int:
    """Check that every receipt of a site is in the log, with the same content; return their number.

    Raises
    ------
    FedcallError
        If a receipt is not the coordinator's, its head is not on this chain, or the log says something else there:
        the aggregator shows different histories to different sites, or rewrote its own.
    """
    study.site(site)
    heads = {line.head: line.entry for line in lines}
    paths = sorted(Path(rounds).glob("*/receipt.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    for path in paths:
        receipt = read_signed(path, Receipt, study.coordinator or "")
        if (receipt.study, receipt.site) != (study.digest, site):
            raise FedcallError(f"{path}: is a receipt of site '{receipt.site}' in study {receipt.study}")
        if receipt.log_head not in heads:
            raise FedcallError(
                f"{path}: its log head {receipt.log_head[:16]}… is not in this log; fetch the log again, and if that"
                " does not help, the aggregator has rewritten its history: ask the coordinator"
            )
        if not _agrees(heads[receipt.log_head], receipt):
            raise FedcallError(f"{path}: the log says something else than this receipt where both should be the same")
    return len(paths)


def _agrees(entry: Entry | Hidden, receipt: Receipt) -> bool:
    if isinstance(entry, Opened):
        outliers = [outlier.site for outlier in entry.outliers]
        return receipt.reason == "outlier" and receipt.round == entry.round - 1 and receipt.site in outliers
    return isinstance(entry, Decided) and (
        entry.site,
        entry.round,
        entry.document,
        entry.status,
        entry.reason,
        entry.epsilon,
    ) == (receipt.site, receipt.round, receipt.claim, receipt.status, receipt.reason, receipt.epsilon)


def _words(entry: Entry | Hidden) -> str:
    if isinstance(entry, Opened):
        outliers = "".join(f"; {outlier.site} {outlier.sentence}" for outlier in entry.outliers)
        void = f"; {entry.void}" if entry.void else ""
        return f"round {entry.round} opened, averaged: {', '.join(entry.accepted) or 'nobody'}{outliers}{void}"
    if isinstance(entry, Ordered):
        order, _ = read_unverified(entry.order.encode(), SumOrder)
        return f"round {entry.round} closed, its sum ordered over: {', '.join(order.sites)}"
    if isinstance(entry, Decided):
        return f"{entry.site} round {entry.round} {entry.status} ({entry.reason}): {entry.sentence}"
    if isinstance(entry, Judged):
        return f"{entry.site} judgement {entry.status} ({entry.reason}): {entry.sentence}"
    if isinstance(entry, Concluded):
        return f"judgements closed: {', '.join(site.site for site in entry.sites) or 'nobody'}"
    if isinstance(entry, Hidden):
        return f"another site's entry {entry.sha256[:8]}"
    if isinstance(entry, Fetched):
        return f"{entry.site} was given the final model"
    if isinstance(entry, Closed):
        return f"study closed after round {entry.round} by {entry.operator}: {entry.reason}"
    return f"{entry.site} {entry.kind} by {entry.operator}: {entry.reason}"
