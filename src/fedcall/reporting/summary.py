"""The five lines that sum a study up."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.reporting.evaluation.documents import EvaluationReport, caller_name
from fedcall.reporting.privacy.documents import StudyPrivacyReport
from fedcall.reporting.privacy.spending import Told

Report = TypeVar("Report", bound=Document)


def summary_lines(evaluation: Path, privacy: Path) -> list[str]:
    """Return the five lines from the JSON of a study's evaluation and privacy reports.

    Raises
    ------
    FedcallError
        If a file is missing or not such a report, or the two are about different studies.
    """
    calls, spent = _read(evaluation, EvaluationReport), _read(privacy, StudyPrivacyReport)
    if calls.study.sha256 != spent.study.sha256:
        raise FedcallError(
            f"{evaluation}: about study {calls.study.sha256[:12]}…, but {privacy} is about {spent.study.sha256[:12]}…"
        )
    patients = sum(site.patients_declared for site in spent.sites)
    return [
        f"sites     {len(spent.sites)} of {len(spent.study.sites)} reported"
        f" ({', '.join(site.site for site in spent.sites)}), {patients} patients declared",
        f"rounds    {spent.rounds_done} of {spent.study.rounds_planned}, {spent.updates} updates accepted",
        f"privacy   {_privacy(spent)}",
        f"F1        {_accuracy(calls)}",
        *([f"judge     {calls.judge.sentence}"] if calls.judge else []),
        f"refusals  {_refusals(spent)}",
    ]


def _privacy(spent: StudyPrivacyReport) -> str:
    if spent.largest_epsilon_pld is None:
        return f"none: no noise was added, nothing bounds the loss of a {spent.unit}"
    cap = f"of {spent.max_epsilon:g} allowed" if spent.max_epsilon is not None else "no cap agreed"
    told = Told(spent.largest_epsilon_pld, spent.delta, spent.largest_epsilon_common)
    text = f"{told} per {spent.unit}, {cap}"
    return text if spent.unit == "patient" else f"{text} (an example, not a patient: a patient's guarantee is weaker)"


def _accuracy(calls: EvaluationReport) -> str:
    f1 = {row.caller: row.f1.value for row in calls.scopes[0].figures if row.type == "all"}
    parts = [
        f"{caller_name(caller, calls.initial_is_fresh)} {'–' if value is None else f'{value:.3f}'}"
        for caller, value in f1.items()
    ]
    gate = calls.gate
    headline = gate.headline[0].lower() + gate.headline[1:]
    where = ", in regions nobody trained on" if gate.on_unseen_regions else ""
    people = "held-out patients" if gate.basis == "held-out patients" else "public people"
    basis = f" (by {gate.people} {people}{where})" if gate.people else " (nobody to judge it on)"
    return f"{', '.join(parts)}: {headline}{basis}"


def _refusals(spent: StudyPrivacyReport) -> str:
    refused = [row for row in spent.refusals if row.status != "withheld"]
    if not refused and not spent.withheld:
        return "none"
    reasons = ", ".join(f"{row.site} round {row.round}: {row.reason}" for row in refused[:3])
    more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
    listed = f" ({reasons}{more})" if reasons else ""
    return f"{spent.refused} refused{listed}, {spent.withheld} withheld"


def _read(path: Path, kind: type[Report]) -> Report:
    try:
        return kind.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such report; make it with 'fedcall report'") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not the JSON of {kind.__name__}: {describe(error)}") from None
