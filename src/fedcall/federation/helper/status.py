"""What a helper's people see: which rounds it opened and for whom, and whether its log is whole and new."""

import datetime
from pathlib import Path
from typing import Any

from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.helper.desk import registered_helper
from fedcall.federation.helper.log import HelperLog, refuse_older_log
from fedcall.federation.helper.service import is_serving, last_contact
from fedcall.shown import shown
from fedcall.study.admission_log import Opened
from fedcall.study.log_reading import read_log
from fedcall.study.sum_orders import MaskSum
from fedcall.study.terms import Study


def helper_status(study: Study, keys: Path, state: Path) -> dict[str, Any]:
    """Return a helper's answers in a study and its last contact, ready for JSON."""
    helper, log = registered_helper(study, keys), _read(study, keys, state)
    contact = last_contact(state)
    return {
        "study": study.name,
        "digest": study.digest,
        "helper": helper.name,
        "alive": is_serving(state),
        "last_contact": None if contact is None else _time(contact[0]),
        "last_sentence": None if contact is None else contact[1],
        "rounds": study.rounds,
        "minimum_sites": study.least_sites,
        "log_head": log.head,
        "answers": [
            {
                "round": number,
                "time": _time(standing.seconds),
                "order": standing.entry.order,
                "sites": list(standing.entry.sites),
                "unopened": list(standing.entry.unopened),
            }
            for number, standing in sorted(log.answers(study.digest).items())
        ],
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """Return a status in lines for people."""
    alive = "alive" if found["alive"] else "not running"
    heard = "never" if found["last_contact"] is None else found["last_contact"][:16].replace("T", " ") + " UTC"
    lines = [f"helper {found['helper']} of study {found['study']}: {alive}; heard of the aggregator: {heard}"]
    if found["last_sentence"]:
        lines.append(f"  {shown(found['last_sentence'])}")
    for answer in found["answers"]:
        given = f"opened for {len(answer['sites'])} sites ({', '.join(answer['sites'])})"
        if answer["unopened"]:
            given = f"void, the seeds of {', '.join(answer['unopened'])} do not open"
        lines.append(
            f"round {answer['round']} of {found['rounds']}: {given}, {answer['time'][:16].replace('T', ' ')} UTC"
        )
    return lines


def verify_log(study: Study, keys: Path, state: Path, log: Path | None = None) -> str:
    """Return, in a sentence, that a helper's log is whole and holds every answer that it is known to have given.

    Parameters
    ----------
    log : Path, optional
        The aggregator's admission log, or what a site fetched of it: each signed answer there must stand here.

    Raises
    ------
    FedcallError
        If a line was changed or is missing, or an answer in `log` is not this helper's.
    """
    helper, own = registered_helper(study, keys), _read(study, keys, state)
    sentence = f"{own.path}: {len(own.lines)} lines, none changed, none missing"
    if log is None:
        return sentence
    place = [one.name for one in study.protection.helpers].index(helper.name)
    count = 0
    for line in read_log(log):
        if not isinstance(line.entry, Opened) or not line.entry.masks:
            continue
        answer = verify(line.entry.masks[place].encode(), MaskSum, helper.public_key)
        if not own.has_head(answer.log_head):
            raise FedcallError(f"{own.path}: lacks the answer for round {answer.round} that stands in {log}")
        count += 1
    return f"{sentence}; the {count} answers in {log} stand in it"


def _read(study: Study, keys: Path, state: Path) -> HelperLog:
    log = HelperLog(Path(state) / "answers.jsonl")
    log.catch_up()
    refuse_older_log(log, keys, study.digest)
    return log


def _time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
