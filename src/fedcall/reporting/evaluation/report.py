"""The evaluation of a study's calls on held-out patients, and which model to use."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy.stats import binomtest

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import CalibrationBin, Concordance
from fedcall.genomics.concordance.figures import Figures
from fedcall.genomics.concordance.pool import Figure, interval, pool
from fedcall.genomics.concordance.strata import CALLS_ONLY, TRUTH_ONLY
from fedcall.genomics.concordance.worst_errors import WorstErrors
from fedcall.progress import tracked
from fedcall.reporting.base import figures
from fedcall.reporting.evaluation.callers import (
    NOTHING_BESIDE,
    Beside,
    caller_costs,
    caller_differences,
    patterns_of,
    software_of_callers,
    worst_disagreements,
)
from fedcall.reporting.evaluation.documents import (
    Accuracy,
    CalibrationPoint,
    Caller,
    CallerFigures,
    EvaluationReport,
    JudgeFigures,
    Measure,
    PatientError,
    Scope,
    StratumCell,
    StratumRow,
    Type,
    caller_name,
)
from fedcall.reporting.evaluation.inputs import Result, callers_of, of_caller, panel_of, people_of
from fedcall.reporting.evaluation.pileup_drawing import draw_pileup
from fedcall.reporting.evaluation.recommendation import judge_figures, on_patients, recommend, recommend_by_judge
from fedcall.reporting.privacy.checklist import software
from fedcall.reporting.privacy.documents import Statement
from fedcall.reporting.privacy.site_report import study_facts
from fedcall.study.judgement import Verdict
from fedcall.study.terms import Study
from fedcall.workflow.rows_of_people import PUBLIC

DRAWN_ERRORS = 50
UNBOUNDED = 100.0  # Phred, the top of the calibration figure: no error was seen


def evaluation_report(
    study: Study,
    results: Sequence[Result],
    errors: Mapping[tuple[str, str], WorstErrors] | None = None,
    inputs: str | None = None,
    unseen: Sequence[Result] = (),
    verdict: Verdict | None = None,
    beside: Beside = NOTHING_BESIDE,
) -> EvaluationReport:
    """Pool the results over the sites' patients, overall and per site; held-out public people stand apart.

    Parameters
    ----------
    errors : mapping, optional
        Errors of the final model's calls by (site, patient); the worst are drawn.
    inputs : str, optional
        Keyed digest of the results, for the report (`inputs.results_digest`).
    unseen : sequence of Result
        Results of public people on those of their regions that nobody trained on.
    verdict : Verdict, optional
        What all sites' held-out patients say of the final model; the recommendation then rests on it.
    beside : Beside, optional
        Where the callers agree, and what they cost.

    Raises
    ------
    FedcallError
        If a site is not part of the study, or the final or the initial model is missing.
    """
    callers = callers_of(results)
    everyone = results
    public = [result for result in results if result.site == PUBLIC]
    results = [result for result in results if result.site != PUBLIC] or public
    for needed in ("final", "initial"):
        if needed not in callers:
            raise FedcallError(
                f"no concordance of caller '{needed}' was given; the recommendation compares both models"
            )
    by_site = {site.name: [result for result in results if result.site == site.name] for site in study.sites}
    for result in results:
        if result.site != PUBLIC:
            study.site(result.site)
    pooled = {caller: pool(of_caller(results, caller)) for caller in callers}
    groups = [
        (None, results),
        *((site, own) for site, own in by_site.items() if own),
        *([(PUBLIC, public)] if public else []),
    ]
    scopes = tuple(_scope(site, own, callers) for site, own in tracked(groups, "evaluation", "groups"))
    fresh = "likelihood" in pooled and _same_calls(pooled["initial"], pooled["likelihood"])
    judged = None if verdict is None else judge_figures(study, verdict)
    gate = recommend_by_judge(study, judged) if judged else None
    gate = gate or recommend(public, [result for result in unseen if result.site == PUBLIC], fresh)
    figures_sentence = on_patients(scopes[0], fresh, study.privacy.noise_multiplier > 0)
    return EvaluationReport(
        study=study_facts(study),
        sentence=f"{gate.verdict} {figures_sentence}",
        on_patients=figures_sentence,
        gate=gate,
        judge=judged,
        initial_is_fresh=fresh,
        noise_multiplier=study.privacy.noise_multiplier,
        patients=scopes[0].patients,
        label_types=pooled["final"].label_types,
        callers=callers,
        panel=panel_of(results),
        software_of_callers=software_of_callers(beside.agreements),
        differences=caller_differences(results),
        costs=caller_costs(everyone, study.name, beside.benchmarks) if beside.benchmarks else (),
        patterns=patterns_of(beside.agreements),
        disagreements_in_all=(
            sum(own.disagreements_in_all for own in beside.agreements.values()) if beside.agreements else None
        ),
        disagreements=worst_disagreements(beside.agreements),
        scopes=scopes,
        strata=_strata(pooled),
        calibration=_calibration(pooled),
        errors_in_all=None if errors is None else sum(own.errors_in_all for own in errors.values()),
        errors=_worst(errors or {}),
        notes=(*_notes(), *([_judge_note(judged)] if judged else [])),
        software=software(),
        inputs=inputs,
    )


def evaluation_figures(report: EvaluationReport) -> dict[str, str]:
    """Draw accuracy by caller, by site, and calibration."""
    names = {caller: caller_name(caller, report.initial_is_fresh) for caller in report.callers}
    overall, sites = report.scopes[0], report.scopes[1:]
    types: dict[Type, str] = {"snps": "SNPs", "indels": "Indels"} if report.label_types == "all" else {"snps": "SNPs"}
    f1 = {(row.caller, row.type): as_estimate(row.f1) for row in overall.figures}
    by_caller = {title: [f1[caller, kind] for caller in report.callers] for kind, title in types.items()}
    by_site = {
        names[caller]: [
            next(as_estimate(row.f1) for row in site.figures if (row.caller, row.type) == (caller, "all"))
            for site in sites
        ]
        for caller in report.callers
    }
    quality = {
        names[caller]: [
            (
                (point.low + point.high) / 2,
                figures.Estimate(point.measured, point.measured_low, point.measured_high or UNBOUNDED),
            )
            for point in report.calibration
            if point.caller == caller
        ]
        for caller in report.callers
    }
    label = "F1 of genotypes, with 95 % interval"
    return {
        "callers": figures.dots("callers", list(names.values()), by_caller, label),
        "sites": figures.dots("sites", [site.site or "" for site in sites], by_site, label),
        "calibration": figures.calibration("calibration", {name: points for name, points in quality.items() if points}),
        **{f"error-{number}": draw_pileup(shown.error) for number, shown in enumerate(report.errors)},
        **{
            f"disagreement-{number}": draw_pileup(shown.disagreement.drawn)
            for number, shown in enumerate(report.disagreements)
            if shown.disagreement.drawn is not None
        },
    }


def _scope(site: str | None, results: Sequence[Result], callers: Sequence[Caller]) -> Scope:
    rows = []
    for caller in callers:
        concordances = of_caller(results, caller)
        pooled = pool(concordances)
        kinds: tuple[tuple[Type, Figures | None], ...] = (
            ("snps", pooled.snps),
            ("indels", pooled.indels),
            ("all", pooled.all),
        )
        rows += [_figures(caller, kind, found, concordances) for kind, found in kinds if found is not None]
    return Scope(site=site, patients=people_of(results), figures=tuple(rows))


def _figures(caller: Caller, kind: Type, found: Figures, concordances: Sequence[Concordance]) -> CallerFigures:
    return CallerFigures(caller=caller, **dict(accuracy(kind, found, concordances)))


def accuracy(kind: Type, found: Figures, concordances: Sequence[Concordance]) -> Accuracy:
    """Return pooled figures of one type of variant with their intervals; `found` is pooled from the concordances."""

    def measure(name: Figure, value: float | None) -> Measure:
        bounds = interval(concordances, kind, name) if value is not None else None
        low, high = bounds if bounds else (None, None)
        return Measure(value=value, low=low, high=high)

    return Accuracy(
        type=kind,
        precision=measure("precision", found.precision),
        recall=measure("recall", found.recall),
        f1=measure("f1", found.f1),
        truth=found.tp + found.fn,
        calls=found.tp_calls + found.fp,
        genotype_errors=found.genotype_errors,
    )


def as_estimate(measure: Measure) -> figures.Estimate | None:
    """Return a measure as figures draw it; None where nothing can be said."""
    if measure.value is None:
        return None
    low = measure.value if measure.low is None else measure.low
    return figures.Estimate(measure.value, low, measure.value if measure.high is None else measure.high)


def _same_calls(one: Concordance, other: Concordance) -> bool:
    return (one.snps, one.indels) == (other.snps, other.indels)


def _strata(pooled: dict[Caller, Concordance]) -> tuple[StratumRow, ...]:
    found = {
        caller: {(row.type, row.stratum, row.value): row.figures for row in concordance.strata}
        for caller, concordance in pooled.items()
    }
    rows = []
    figure: Literal["f1", "precision", "recall"]
    for kind, stratum, value in sorted({key for rows in found.values() for key in rows}, key=_stratum_order):
        own = {
            caller: groups[kind, stratum, value] for caller, groups in found.items() if (kind, stratum, value) in groups
        }
        truth = None if stratum in CALLS_ONLY else max(group.tp + group.fn for group in own.values())
        cells = tuple(
            StratumCell(
                caller=caller,
                precision=None if stratum in TRUTH_ONLY else group.precision,
                recall=None if truth is None else group.recall,
                f1=None if truth is None or stratum in TRUTH_ONLY else group.f1,
            )
            for caller, group in own.items()
        )
        figure = "precision" if stratum in CALLS_ONLY else "recall" if stratum in TRUTH_ONLY else "f1"
        final = own.get("final")
        calls = None if stratum in TRUTH_ONLY else final.tp_calls + final.fp if final else 0
        rows.append(
            StratumRow(type=kind, stratum=stratum, value=value, truth=truth, calls=calls, figure=figure, cells=cells)
        )
    return tuple(rows)


def _stratum_order(key: tuple[str, str, str]) -> tuple[bool, str, float, str]:
    kind, stratum, value = key
    number = re.match(r"\d+(\.\d+)?", value)
    return kind != "snps", stratum, float(number[0]) if number else 0.0, value


def _calibration(pooled: dict[Caller, Concordance]) -> tuple[CalibrationPoint, ...]:
    return tuple(
        _calibration_point(caller, point)
        for caller, concordance in pooled.items()
        for point in concordance.calibration
        if point.calls
    )


def _calibration_point(caller: Caller, point: CalibrationBin) -> CalibrationPoint:
    exact = binomtest(point.errors, point.calls).proportion_ci(method="exact")
    return CalibrationPoint(
        caller=caller,
        low=point.low,
        high=point.high,
        calls=point.calls,
        errors=point.errors,
        measured=_phred((point.errors + 0.5) / (point.calls + 1)),
        measured_low=_phred(exact.high),
        measured_high=_phred(exact.low) if point.errors else None,
    )


def _phred(error: float) -> float:
    return -10 * math.log10(error)


def _worst(errors: Mapping[tuple[str, str], WorstErrors]) -> tuple[PatientError, ...]:
    everyone = [
        PatientError(site=site, patient=patient, error=error)
        for (site, patient), own in sorted(errors.items())
        for error in own.errors
    ]
    return tuple(sorted(everyone, key=lambda one: -one.error.severity)[:DRAWN_ERRORS])


def _judge_note(judged: JudgeFigures) -> Statement:
    return Statement(
        topic="The private judge",
        statement=f"Each site released one number about its held-out patients: the sum of their differences of F1, each"
        f" clipped to ±{judged.clip:g}, with {judged.mechanism.capitalize()} noise; the mean divides by the declared"
        " number of held-out patients, and a patient whose budget is spent counts as no difference. This figure is"
        f" differentially private: it cost each held-out patient epsilon = {judged.epsilon:g}, once. The interval"
        " counts the noise, and the sampling of patients by the largest variance that the clipping allows.",
    )


def _notes() -> tuple[Statement, ...]:
    return (
        Statement(
            topic="Not private",
            statement="These figures are computed from the data of held-out patients, without noise: they are"
            " data-dependent and not differentially private. At a hospital they stay at the hospital; sharing them is a"
            " decision of its own, outside every epsilon.",
        ),
        Statement(
            topic="Held-out",
            statement="Patients scored here took part in no training round; they may be relatives of those who did.",
        ),
        Statement(
            topic="What counts",
            statement="Genotypes: a call counts as right if truth has the same allele in the same number of copies, or"
            " if both spell the same local haplotypes. Only variants inside the confident regions count.",
        ),
        Statement(
            topic="Intervals",
            statement="95 % by a bootstrap over patients and over blocks of the regions (Owen 2007); conservative. The"
            " difference of two models is resampled in pairs, so it is known better than either figure.",
        ),
        Statement(
            topic="Choosing by this report",
            statement="Picking the better of several models on these patients makes its figure here slightly too good.",
        ),
    )
