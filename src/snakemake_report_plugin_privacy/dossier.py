"""Read a finished workflow into a dossier, through what Snakemake's report interface tells of jobs and files."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from snakemake_interface_report_plugins.interfaces import DAGReportInterface, JobRecordInterface, JobReportInterface

from fedcall.documents import read_signed
from fedcall.errors import FedcallError
from fedcall.reporting.privacy.checklist import software
from fedcall.reporting.privacy.documents import PrivacyReport, Statement, StudyPrivacyReport
from fedcall.study.claims import Claim, Receipt
from fedcall.study.terms import Study, read_study
from snakemake_report_plugin_privacy.documents import Dossier, Edge, Input, Making, ReportedRound, RuleRun

# Files of the federation: they have left the site or came from outside. All others are data of patients, made from
# it, or named after one.
SHARED = {"study.json", "initial.safetensors", "global.safetensors", "update.safetensors", "claim.json", "receipt.json"}


Report = TypeVar("Report", PrivacyReport, StudyPrivacyReport)


def dossier(records: Sequence[JobRecordInterface], dag: DAGReportInterface) -> Dossier:
    """Return the dossier of the study whose files the jobs made.

    Raises
    ------
    FedcallError
        If the workflow has not written a privacy report, or a signature does not verify.
    """
    made = {Path(file): record for record in records for file in record.output}
    study = _study(made)
    sites = sorted(_reports(made, PrivacyReport), key=lambda report: report.site)
    of_study = next(iter(_reports(made, StudyPrivacyReport)), None)
    if not sites:
        raise FedcallError("the workflow has not written a privacy report; run it to its end, then make the dossier")
    head = of_study or sites[0]
    return Dossier(
        study=head.study,
        sentence=of_study.sentence if of_study else sites[0].spent.sentence,
        light=head.light,
        terms=head.terms,
        budget=tuple(sites),
        budget_of_study=of_study,
        releases=_releases(made, study, dag),
        rules=_rules(records, dag),
        edges=_edges(dag),
        trust=head.trust,
        not_covered=head.not_covered,
        checklist=head.checklist,
        commands=head.commands,
        software=(*software(), Statement(topic="snakemake", statement=version("snakemake"))),
    )


def _study(made: dict[Path, JobRecordInterface]) -> Study:
    for path in made:
        if path.name == "study.json":
            return read_study(path)
    raise FedcallError("no job of this workflow wrote a study.json; is this fedcall's workflow, run to its end?")


def _reports(made: dict[Path, JobRecordInterface], kind: type[Report]) -> list[Report]:
    wanted = kind.model_fields["kind"].default
    contents = (json.loads(path.read_text()) for path in made if path.name == "privacy.json")
    return [kind.model_validate(content) for content in contents if content.get("kind") == wanted]


def _releases(made: dict[Path, JobRecordInterface], study: Study, dag: DAGReportInterface) -> tuple[ReportedRound, ...]:
    releases = [
        _release(path, path.with_name("receipt.json"), record, study, dag)
        for path, record in made.items()
        if path.name == "claim.json"
    ]
    return tuple(sorted(releases, key=lambda release: (release.site, release.round)))


def _release(
    claim_path: Path, receipt_path: Path, record: JobRecordInterface, study: Study, dag: DAGReportInterface
) -> ReportedRound:
    assert study.coordinator is not None  # read_study returns complete studies only
    # results/{study}/{site}/rounds/{round}/claim.json
    claim = read_signed(claim_path, Claim, study.site(claim_path.parents[2].name).public_key)
    receipt = read_signed(receipt_path, Receipt, study.coordinator) if receipt_path.is_file() else None
    if receipt is not None and receipt.claim != claim.digest:
        raise FedcallError(f"{receipt_path}: answers claim {receipt.claim[:12]}…, not {claim_path}")
    return ReportedRound(
        site=claim.site,
        round=claim.round,
        outcome=claim.outcome,
        claimed_epsilon=claim.epsilon,
        update=claim.update,
        base=claim.base,
        claim=claim.digest,
        making=Making(
            rule=str(record.rule),
            software=claim.software,
            environment=str(record.conda_env_file or record.container_img_url or ""),
            started=datetime.fromtimestamp(record.starttime, UTC).isoformat(timespec="seconds"),
            seconds=round(max(0.0, record.endtime - record.starttime), 2),
            inputs=_inputs(record.job, dag, claim_path.parents[2]),
        ),
        status=receipt.status if receipt else "waiting",
        reason=receipt.reason if receipt else None,
        sentence=receipt.sentence if receipt else "no receipt yet",
        aggregator_epsilon=receipt.epsilon if receipt else None,
    )


def _inputs(job: JobReportInterface, dag: DAGReportInterface, site: Path) -> tuple[Input, ...]:
    """Return what a site's training read: in a rehearsal one job trains all sites, and others' files are not its."""
    found: dict[tuple[str, str | None], Input] = {}
    for maker, files in dag.dependencies[job].items():
        for file in map(str, files):
            if "rounds" in Path(file).parts and site not in Path(file).parents:
                continue
            shared = file if Path(file).name in SHARED else None
            digest = _sha256(Path(file)) if shared and Path(file).is_file() else None
            found[maker.rule.name, shared] = Input(rule=maker.rule.name, file=shared, sha256=digest)
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[1] or "", key[0])))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rules(records: Sequence[JobRecordInterface], dag: DAGReportInterface) -> tuple[RuleRun, ...]:
    levels: dict[str, int] = {}
    for level, jobs in enumerate(dag.toposorted()):
        for job in jobs:
            levels.setdefault(job.rule.name, level)
    runs: dict[str, list[float]] = {rule: [] for rule in levels}
    for record in records:
        runs.setdefault(str(record.rule), []).append(max(0.0, record.endtime - record.starttime))
    ranked = {level: rank for rank, level in enumerate(sorted(set(levels.values())))}
    return tuple(
        RuleRun(rule=rule, level=ranked[levels[rule]], jobs=len(runs[rule]), seconds=round(sum(runs[rule]), 2))
        for rule in sorted(levels, key=lambda rule: (levels[rule], rule))
        if runs[rule]
    )


def _edges(dag: DAGReportInterface) -> tuple[Edge, ...]:
    jobs: Iterable[JobReportInterface] = (job for level in dag.toposorted() for job in level)
    pairs = {(maker.rule.name, job.rule.name) for job in jobs for maker in dag.dependencies[job]}
    return tuple(Edge(before=before, after=after) for before, after in sorted(pairs))
