"""One document of every kind of report, of a study with a refusal and with errors in its calls."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcall.callers.agreement import Disagreement, Pattern
from fedcall.callers.software import CallerSoftware
from fedcall.experiments.documents import AttackReport, AuditReport, Interval, MeasurementReport, MembershipReport
from fedcall.genomics.concordance.worst_errors import CallError, DrawnRead, WorstErrors
from fedcall.keys import read_secret
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.comparison.documents import ComparisonReport, LeftOut, NamedAccuracy, NamedDifference
from fedcall.reporting.comparison.report import comparison_figures
from fedcall.reporting.evaluation.documents import Difference, Measure
from fedcall.reporting.evaluation.inputs import read_errors, read_results
from fedcall.reporting.evaluation.report import evaluation_figures, evaluation_report
from fedcall.reporting.privacy.audit import read_audit
from fedcall.reporting.privacy.audit_page import audit_figures
from fedcall.reporting.privacy.dashboard import (
    Dashboard,
    InterventionRow,
    RefusalRow,
    RoundRow,
    SiteRow,
    dashboard_figures,
)
from fedcall.reporting.privacy.documents import ClosedEarly, PrivacyReport, Statement, StudyPrivacyReport
from fedcall.reporting.privacy.ledger_facts import read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_figures, privacy_report
from fedcall.reporting.privacy.study_report import study_privacy_figures, study_privacy_report
from fedcall.reporting.utility.report import utility_figures, utility_report
from reporting_points import made_sweep
from reporting_study import make_federation, play_round, write_audit, write_concordances
from snakemake_report_plugin_privacy.documents import Dossier, Edge, Input, Making, ReportedRound, RuleRun
from snakemake_report_plugin_privacy.rule_graph import draw

ADAPTIVE = PrivacyTerms.model_validate(
    {
        "noise_multiplier": 4.0,
        "sampling_rate": 1.0,
        "steps_per_round": 4,
        "delta": 8e-3,
        "max_epsilon": 30,
        "clipping": "adaptive",
        "adaptation": {"quantile_noise": 0.5},
    }
)
TRACES = (ClipTrace(start=1.0, shares=(1.9, 2.2, 1.3, 1.1)), ClipTrace(start=0.41, shares=(0.1, 0.4, 0.5, -0.2)))


@dataclass(frozen=True)
class Made:
    """A report's document, with what makes its page."""

    document: Any
    template: str
    draw: Callable[[Any], dict[str, str]]


def made_reports(folder: Path) -> dict[str, Made]:
    """Return a report of every kind, made in `folder`."""
    federation = make_federation(folder)
    for number in (1, 2, 3):
        play_round(federation, "north", number)
    play_round(federation, "south", 1)
    play_round(federation, "south", 2, "quarantined", "outlier")
    study = federation.study
    sites = [
        privacy_report(
            study,
            site,
            read_rounds(study, site, hospital.rounds),
            read_ledger(hospital.ledger, read_secret(hospital.keys), study, site),
            closed=ClosedEarly(round=3, reason="enough", operator="ada@here"),
        )
        for site, hospital in federation.sites.items()
    ]
    whole = study_privacy_report(study, sites)
    results = write_concordances(folder, {"north": 2, "south": 2}, {"final": 0.05, "initial": 0.2, "bcftools": 0.1})
    errors = folder / "north" / "errors" / "north_h0.json"
    errors.parent.mkdir(parents=True)
    errors.write_text(WorstErrors(errors_in_all=7, errors=tuple(map(_error, range(7)))).model_dump_json())
    adaptive = make_federation(folder / "adaptive", ADAPTIVE)
    for number, trace in enumerate(TRACES, start=1):
        play_round(adaptive, "north", number, clipping=trace)
    audited = privacy_report(
        adaptive.study,
        "north",
        read_rounds(adaptive.study, "north", adaptive.sites["north"].rounds),
        read_ledger(adaptive.sites["north"].ledger, read_secret(adaptive.sites["north"].keys), adaptive.study, "north"),
        audit=read_audit(write_audit(folder / "audit.json", adaptive.study), adaptive.study),
    )
    watched = _dashboard(whole)
    attacked = _attacked(AuditReport.model_validate_json((folder / "audit.json").read_bytes()))
    swept = utility_report(made_sweep())
    calls = evaluation_report(study, read_results(results), read_errors([errors]))
    files = _dossier(sites[0], whole)
    return {
        "site": Made(sites[0], "privacy.html", privacy_figures),
        "adaptive": Made(audited, "privacy.html", privacy_figures),
        "dashboard": Made(watched, "dashboard.html", dashboard_figures),
        "audit": Made(attacked, "audit.html", audit_figures),
        "study": Made(whole, "privacy_study.html", study_privacy_figures),
        "evaluation": Made(calls, "evaluation.html", evaluation_figures),
        "utility": Made(swept, "utility.html", utility_figures),
        "comparison": Made(_comparison(), "comparison.html", comparison_figures),
        "dossier": Made(files, "dossier.html", lambda report: {"rules": draw(report.rules, report.edges)}),
    }


def _attacked(report: AuditReport) -> AuditReport:
    """The audit with a measurement and an attack on finished models, as `--self-check --membership` adds them."""
    measured = MeasurementReport(values=342_000, noise_claimed=1.4, noise_at_most=1.405, contribution_at_least=0.95)
    chance = Interval(value=0.507, low=0.427, high=0.566)
    private = MembershipReport(
        model="as in the study",
        epsilon=2.922,
        unit="patient",
        delta=1e-3,
        steps=60,
        accuracy=chance,
        most_accuracy=0.949,
        auc=chance,
        named=Interval(value=0.069, low=0.017, high=0.099),
        most_named=0.93,
    )
    plain = {"model": "without privacy", "epsilon": None, "most_accuracy": None, "most_named": None}
    attack = AttackReport(
        models=12,
        patients=24,
        false_alarms=0.05,
        without_privacy=private.model_copy(update=plain),
        as_in_study=private,
        sentence="An attacker who must decide whether a patient took part is right in 51 of 100 cases.",
    )
    crowd = report.scenes[0].model_copy(update={"measurement": measured})
    return report.model_copy(update={"scenes": (crowd, *report.scenes[1:]), "membership": attack})


def _dashboard(report: StudyPrivacyReport) -> Dashboard:
    """A study in its fourth round: one site awaited, one quarantined for an outlier."""
    sites = [
        SiteRow(site="north", patients=12, answer=None, accepted_rounds=3, refusals=0, quarantined=False),
        SiteRow(site="south", patients=12, answer="withheld", accepted_rounds=1, refusals=1, quarantined=True),
    ]
    rounds = [
        RoundRow(
            round=n, accepted=2 - (n > 1), refused=int(n == 2), withheld=0, change=1.2 / n, relative_change=0.3 / n
        )
        for n in (1, 2, 3)
    ]
    still_open = RoundRow(round=4, accepted=0, refused=0, withheld=1, change=None, relative_change=None)
    refusal = RefusalRow(
        id="south-2-0f3c9d21aa04",
        time="2026-11-24T08:12:31Z",
        site="south",
        round=2,
        status="quarantined",
        reason="outlier",
        sentence="The update lies 14.2 robust deviations from those of the other sites; 6 are allowed.",
    )
    done = InterventionRow(
        time="2026-11-24T08:40:02Z",
        site="south",
        action="set aside",
        operator="ada@coordinator.example.org",
        reason="its sequencing laboratory is looking into the chemistry of the last month's runs",
    )
    return Dashboard(
        study=report.study,
        sentence="Round 4 of 6 is open: 1 of 2 sites have answered, waiting for north. 1 update refused so far.",
        done=False,
        open_round=4,
        alive=True,
        log_head="3f" * 32,
        sites=tuple(sites),
        rounds=(*rounds, still_open),
        refusals=(refusal,),
        interventions=(done,),
        spending="A patient of a site that took part in every round has lost epsilon 2.29 at delta 0.001.",
        unit="patient",
        delta=0.001,
        rounds_counted=4,
        epsilon_pld=2.29,
        epsilon_common=3.41,
        commands=(Statement(topic="The log is unbroken", statement="fedcall aggregator log verify --state state"),),
    )


def _comparison() -> ComparisonReport:
    """Two callers, with a disagreement that is drawn."""
    better = Difference(value=0.02, low=0.01, high=0.03)
    shares = {name: Measure(value=0.9, low=0.8, high=0.95) for name in ("precision", "recall", "f1")}
    return ComparisonReport(
        sentence="F1 of ours over all variants is 0.9000.",
        truth="truth.vcf.gz",
        regions_bases=20_000,
        label_types="snps",
        callers=(CallerSoftware(caller="ours", software="fedcall 1"), CallerSoftware(caller="theirs", image="x.sif")),
        figures=tuple(
            NamedAccuracy(caller=name, type=kind, truth=20, calls=19, genotype_errors=1, **shares)
            for name in ("ours", "theirs")
            for kind in ("snps", "all")
        ),
        differences=(NamedDifference(caller="theirs", type="snps", precision=better, recall=better, f1=better),),
        patterns=(Pattern(type="snps", kind="false call", callers=("ours",), count=3),),
        disagreements_in_all=1,
        disagreements=(
            Disagreement(
                contig="chr1",
                position=1021,
                ref="C",
                alt="T",
                kind="false call",
                true_copies=0,
                callers=("ours",),
                severity=30.0,
                drawn=_error(1),
            ),
        ),
        left_out=(LeftOut(caller="theirs", reason="no genotype", count=2),),
        notes=(Statement(topic="What counts", statement="Genotypes."),),
    )


def _dossier(site: PrivacyReport, whole: StudyPrivacyReport) -> Dossier:
    """A dossier of one release."""
    made = Making(
        rule="train_round",
        software="fedcall 1",
        environment="envs/training.yaml",
        started="2026-11-24T08:12:31Z",
        seconds=3.0,
        inputs=(Input(rule="fetch_global", file="global.safetensors", sha256="0" * 64),),
    )
    release = ReportedRound(
        site="north",
        round=1,
        outcome="update",
        claimed_epsilon=1.0,
        update="0" * 64,
        base="0" * 64,
        claim="0" * 64,
        making=made,
        status="rejected",
        reason="noise-floor",
        sentence="The update is too short.",
        aggregator_epsilon=1.0,
    )
    return Dossier(
        study=whole.study,
        sentence="One of one release was refused.",
        light=whole.light,
        terms=whole.terms,
        budget=(site,),
        budget_of_study=whole,
        releases=(release,),
        rules=tuple(RuleRun(rule=name, level=at, jobs=2, seconds=1.0) for at, name in enumerate(("fetch", "train"))),
        edges=(Edge(before="fetch", after="train"),),
        trust=whole.trust,
        not_covered=whole.not_covered,
        checklist=whole.checklist,
        commands=(Statement(topic="The log", statement="fedcall aggregator log verify"),),
        software=(Statement(topic="fedcall", statement="1"),),
    )


def _error(number: int) -> CallError:
    reference = "ACGTTGCAAGCTTACGGATCCATGCATTAGCCTAGGTTCAA"
    read = DrawnRead(reverse=False, mapping_quality=60, bases=reference[:20] + "T" + reference[21:], insertions=())
    return CallError(
        contig="chr1",
        position=1021 + number,
        ref="C",
        alt="CTAGGTTCAACGATCGGATTACAGGCTTAACGT" if number == 3 else "T",
        kind="false call",
        true_copies=0,
        called_copies=1,
        genotype_quality=40 - number,
        severity=40 - number,
        depth=12,
        supporting=5,
        start=1001 + number,
        reference=reference,
        reads=(read,) * 12,
    )
