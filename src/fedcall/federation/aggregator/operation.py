"""What the coordinator's operator sees and does: status, refused updates, release of a site."""

import datetime
import getpass
import json
import socket
from pathlib import Path
from typing import Any

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.last_seen import last_seen
from fedcall.federation.aggregator.service import is_held, read_endpoint
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import LoggedDecision, StudyLog
from fedcall.federation.aggregator.update_checks import noise_floor_share
from fedcall.shown import shown
from fedcall.study.admission_log import AdmissionLog, Closed, Released, SetAside
from fedcall.study.terms import Study, read_study
from fedcall.weights import read_weights


def study_status(state: Path) -> dict[str, Any]:
    """Return round, sites' answers and whether an aggregator is alive, ready for JSON."""
    study, log = open_state(state)
    model = read_weights(StudyFiles(Path(state)).model(1)).tensors
    parameters = sum(model[name].size for name in study.model.trainable_names(model))
    endpoint, seen = read_endpoint(state), last_seen(state)
    alive = is_held(state)
    return {
        "study": study.name,
        "digest": study.digest,
        "rounds": study.rounds,
        "open_round": log.open_round,
        "done": log.is_over(study.rounds),
        "closed": log.closed.model_dump(include={"round", "reason", "operator"}) if log.closed else None,
        "alive": alive,
        "address": endpoint.address if alive and endpoint else None,
        "log_head": log.log.head,
        "awaited": [] if log.is_over(study.rounds) else _awaited(study, log),
        "protection": study.protection.mode,
        "sum_ordered": log.open_round in log.ordered,
        "helpers": [_helper_status(StudyFiles(Path(state)), log, name, seen) for name in _helpers(study)],
        "void_rounds": [number - 1 for number, opening in sorted(log.openings.items()) if opening.void],
        "closes_at": _time(int(log.opened_at + 60 * study.aggregation.deadline_minutes)),
        "sites": [
            {**_site_status(study, log, site.name, parameters), "last_seen": _time(seen[site.name])}
            if site.name in seen
            else {**_site_status(study, log, site.name, parameters), "last_seen": None}
            for site in study.sites
        ],
    }


def refusals(state: Path) -> list[dict[str, Any]]:
    """Return every refused upload, oldest first, ready for JSON."""
    _, log = open_state(state)
    return [_row(decision) for decision in _refused(log)]


def refusal(state: Path, identifier: str) -> dict[str, Any]:
    """Return one refused upload with its claim and files; FedcallError if there is none of that name."""
    _, log = open_state(state)
    rows = {row["id"]: row for row in map(_row, _refused(log))}
    if identifier not in rows:
        said = shown(identifier, 60)
        raise FedcallError(f"{state}: no refused update '{said}'; see: fedcall quarantine list --state {state}")
    folder = Path(state) / "quarantine" / identifier
    try:
        claim = json.loads((folder / "claim.json").read_bytes())["body"]
    except (OSError, ValueError, KeyError, TypeError):
        claim = None
    files = sorted(str(path) for path in folder.glob("*"))
    return {**rows[identifier], "claim": claim, "files": files}


def interventions(state: Path) -> list[dict[str, Any]]:
    """Return what operators did to sites, oldest first, ready for JSON."""
    _, log = open_state(state)
    return [
        {
            "time": _time(seconds),
            "site": entry.site,
            "action": entry.kind,
            "operator": entry.operator,
            "reason": entry.reason,
        }
        for seconds, entry in log.interventions
    ]


def set_aside(state: Path, site: str, reason: str, operator: str | None = None) -> None:
    """Quarantine a site, for example one that is gone for good: nobody waits for it; the log keeps who and why."""
    study, log = open_state(state)
    study.site(site)
    if log.site(site).is_quarantined:
        raise FedcallError(f"site '{site}' is quarantined already")
    log.append(SetAside(site=site, reason=_reason(reason), operator=operator or _operator()))


def release_site(state: Path, site: str, reason: str, operator: str | None = None) -> None:
    """Let a quarantined site back in; the log keeps who and why."""
    study, log = open_state(state)
    study.site(site)
    if not log.site(site).is_quarantined:
        raise FedcallError(f"site '{site}' is not quarantined")
    log.append(Released(site=site, reason=_reason(reason), operator=operator or _operator()))


def close_study(state: Path, reason: str, abandon: bool = False, operator: str | None = None) -> int:
    """End a study after the rounds it has; return the last one. The running service tells the sites.

    Raises
    ------
    FedcallError
        If no round is over yet, the study is over already, or, unless `abandon`, sites have answered the open round:
        their patients' budget is spent on it, and it would count for nothing.
    """
    study, log = open_state(state)
    if log.is_over(study.rounds):
        raise FedcallError(f"study '{study.name}' has its final model already")
    number = log.open_round
    if number < 2:
        raise FedcallError(f"study '{study.name}': no round is over, so there is nothing to keep; stop the service")
    answered = [site.name for site in study.sites if number in log.site(site.name).settled]
    if answered and not abandon:
        raise FedcallError(
            f"round {number} is open and {', '.join(answered)} answered it: wait until it is over ('fedcall aggregator"
            " status'), or give --abandon-open-round, and what was spent on it is spent for nothing"
        )
    log.append(Closed(round=number - 1, reason=_reason(reason), operator=operator or _operator()))
    return number - 1


def open_state(state: Path) -> tuple[Study, StudyLog]:
    """Read the study and the log of a state folder; FedcallError if no aggregator has kept its state there."""
    path = Path(state) / "admission.jsonl"
    if not path.exists():
        raise FedcallError(f"{state}: no aggregator has kept its state here; see 'fedcall aggregator serve'")
    return read_study(Path(state) / "study.json"), StudyLog(AdmissionLog(path))


def _helpers(study: Study) -> list[str]:
    return [helper.name for helper in study.protection.helpers]


def _helper_status(files: StudyFiles, log: StudyLog, name: str, seen: dict[str, int]) -> dict[str, Any]:
    refusal = files.mask_refusal(log.open_round, name)
    return {
        "helper": name,
        "answered": files.mask_statement(log.open_round, name).exists(),
        "refusal": refusal.read_text().strip() if refusal.exists() else None,
        "last_seen": _time(seen[name]) if name in seen else None,
    }


def _awaited(study: Study, log: StudyLog) -> list[str]:
    if log.open_round in log.ordered:
        files = StudyFiles(log.log.path.parent)
        missing = [name for name in _helpers(study) if not files.mask_statement(log.open_round, name).exists()]
        return [f"helper {name}" for name in missing]
    histories = {site.name: log.site(site.name) for site in study.sites}
    return [
        name
        for name, history in histories.items()
        if log.open_round not in history.settled and not history.is_quarantined
    ]


def _refused(log: StudyLog) -> list[LoggedDecision]:
    return [decision for decision in log.decisions if decision.is_refused]


def _row(decision: LoggedDecision) -> dict[str, Any]:
    entry, put_out = decision.entry, decision.put_out
    return {
        "id": decision.identifier,
        "time": _time(decision.seconds),
        "site": entry.site,
        "round": entry.round,
        "status": "quarantined" if put_out else entry.status,
        "reason": "outlier" if put_out else entry.reason,
        "sentence": put_out.sentence if put_out else entry.sentence,
    }


def _time(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _reason(reason: str) -> str:
    if not reason.strip():
        raise FedcallError("--reason is empty; say why, the log keeps it")
    return reason.strip()


def _operator() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _site_status(study: Study, log: StudyLog, name: str, parameters: int) -> dict[str, Any]:
    history = log.site(name)
    answer = history.settled.get(log.open_round)
    return {
        "site": name,
        "answer": _row(answer)["status"] if answer else None,
        "accepted_rounds": history.accepted_rounds,
        "refusals": history.refusals,
        "quarantined": history.is_quarantined,
        # Share of the agreed noise; null where no single update is seen.
        "noise_floor": None if study.sends_sums else round(noise_floor_share(study, name, parameters), 3),
    }
