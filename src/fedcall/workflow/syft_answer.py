"""Answer the jobs that a coordinator left in a hospital's PySyft folder, by running the workflow up to each answer."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.federation.drop_folder import NotThere
from fedcall.federation.site.datasite import Datasite, approve, hand_in, is_approved, read_round, study_jobs
from fedcall.federation.syft_jobs import Job, JobName, SyftBox
from fedcall.files import write_bytes
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.shown import shown
from fedcall.study.terms import Study
from fedcall.workflow.closing import CLOSING, closed_after
from fedcall.workflow.run import Run


@dataclass(frozen=True)
class DataOwner:
    """What the data owner decides, and how the workflow is run.

    Attributes
    ----------
    agrees : callable
        Asked with some lines about a job, in the data owner's words; says whether to approve it.
    run_workflow : callable
        Runs the workflow to the named file (None: to its end); raises FedcallError if it fails.
    """

    agrees: Callable[[str], bool]
    run_workflow: Callable[[Path | None], None]


def answer_jobs(run: Run, decisions: DataOwner) -> Iterator[str]:
    """Answer all jobs of the study that are there, in order; yield a line for each.

    A job whose documents the coordinator did not sign is never approved, and nothing that a job brings is run.

    Raises
    ------
    FedcallError
        If the configuration is not that of a hospital with PySyft, or the workflow fails.
    """
    config, study = run.config, run.study
    if config.site is None or config.syft is None:
        raise FedcallError("'site' and 'syft' are needed in the configuration of a hospital that answers jobs")
    keys = Path(config.site_key.format(site=config.site))
    datasite = Datasite(SyftBox(config.syft.folder, config.syft.datasite.format(site=config.site)), study, keys)
    found = False
    jobs = study_jobs(datasite)
    is_closed = _is_closed(datasite, jobs)
    for name, job in sorted(jobs, key=lambda pair: pair[0].kind != "closing"):
        found = True
        if job.status == "done" or name.kind == "receipt":
            continue
        if is_closed and name.kind == "round":  # nothing that is trained for it would count, and it would be charged
            continue
        line = (
            _verdict(datasite, job, decisions)
            if name.kind == "verdict"
            else _round(run, datasite, name, job, decisions)
        )
        yield f"{job.name}: {line}"
    if not found:
        yield f"no job of study '{study.name}' for {datasite.box.email} in {datasite.box.folder}"


def _is_closed(datasite: Datasite, jobs: list[tuple[JobName, Job]]) -> bool:
    """Say whether the coordinator closed the study, by its signature in a job or in what is kept of an earlier one.

    A job's name says nothing: who carries the folder could stop a hospital with it.
    """
    if closed_after(_kept(datasite), datasite.study) is not None:
        return True
    for name, job in jobs:
        if name.kind in ("closing", "round"):
            with suppress(NotThere):
                if read_round(datasite, name, job)[0].closed is not None:
                    return True
    return False


def _kept(datasite: Datasite) -> Path:
    return Path("results") / datasite.study.name / CLOSING


def _round(run: Run, datasite: Datasite, name: JobName, job: Job, decisions: DataOwner) -> str:
    try:
        digest = job.digest()
        opening, answer = read_round(datasite, name, job)
    except NotThere as missing:
        return f"not answered: {missing}"
    if name.kind == "closing" and opening.closed is None:
        return f"not answered: {job.submission} closes nothing"
    if not is_approved(datasite, digest):
        if not decisions.agrees(f"{_about(run, name, job)}\n  content      {digest}"):
            return "left as it is"
        approve(datasite, job, digest)
    if name.kind == "closing":
        write_bytes(_kept(datasite), answer.document)
        decisions.run_workflow(None)
        datasite.box.finish(job, {})
        return f"done: the study was closed ({shown(opening.closed)}), its final model is here"
    target = _answer_files(run, name.number)
    decisions.run_workflow(target[0] if target else None)
    if not target:
        datasite.box.finish(job, {})
        return "done: the study's final model is here"
    claim, *update = (path.read_bytes() for path in target)
    if job.digest() != digest:
        return f"not answered: what lies in {job.submission} changed after it was approved"
    hand_in(datasite, job, claim, update[0] if update else b"")
    return "answered"


def _verdict(datasite: Datasite, job: Job, decisions: DataOwner) -> str:
    decisions.run_workflow(None)
    datasite.box.finish(job, {})
    return "done: the verdict is here"


def _answer_files(run: Run, number: int) -> list[Path]:
    """Return the files that answer a round, the claim first; none for a final model that is only fetched."""
    study, site = run.study, str(run.config.site)
    folder = Path("results") / study.name / site
    if number <= study.rounds:
        return [folder / "rounds" / str(number) / name for name in ("claim.json", "update.safetensors")]
    return [folder / "judgement" / "judgement.json"] if site in run.judging else []


def _about(run: Run, name: JobName, job: Job) -> str:
    study = run.study
    ends = name.kind == "closing"
    lines = [
        f"{job.name}, left by {shown(job.submitter, 100)}",
        f"  study        {study.name} ({study.digest})",
        f"  round        {'final model: the study is closed early' if ends else _number(study, name.number)}",
        f"  it costs     {'nobody anything' if ends else _cost(run, name.number)}",
        "  it brings    the global model and documents that the coordinator signed (verified); nothing of it is run",
    ]
    return "\n".join(lines)


def _number(study: Study, number: int) -> str:
    return f"{number} of {study.rounds}" if number <= study.rounds else f"final model, after {study.rounds} rounds"


def _cost(run: Run, number: int) -> str:
    study, terms = run.study, run.study.privacy
    if number > study.rounds:
        judge = study.evaluation
        if run.judging and judge is not None and judge.epsilon is not None:
            return f"each held-out patient epsilon {judge.epsilon:g}"
        return "nobody anything"
    before = study_epsilon(terms, number - 1).pld if number > 1 else 0.0
    after = study_epsilon(terms, number).pld
    limit = "not set" if terms.max_epsilon is None else f"{terms.max_epsilon:g}"
    return (
        f"each {terms.unit} epsilon {after - before:.2f} more: {after:.2f} in this study so far, at delta"
        f" {terms.delta:g}; the study's limit is {limit}"
    )
