"""Accuracy against epsilon: points of `fedcall utility` gathered into lines, with intervals."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.experiments.utility_documents import PersonScore, UtilityPoint
from fedcall.reporting.base import figures
from fedcall.reporting.base.pages import round_up
from fedcall.reporting.evaluation.documents import Difference, Measure
from fedcall.reporting.privacy.checklist import software
from fedcall.reporting.privacy.documents import Statement
from fedcall.reporting.utility.documents import LinePoint, ModelFigures, UtilityCurve, UtilityReport
from fedcall.reporting.utility.pooled_scores import Pooled, pooled_f1, pooled_rare_recall

Runs = Sequence[Sequence[PersonScore]]


def read_points(paths: Sequence[Path]) -> list[UtilityPoint]:
    """Read the files that `fedcall utility --output` wrote; errors name the file."""
    points = []
    for path in paths:
        try:
            points.append(UtilityPoint.model_validate_json(Path(path).read_bytes()))
        except FileNotFoundError:
            raise FedcallError(f"{path}: no such file; 'fedcall utility' makes it") from None
        except ValidationError as error:
            raise FedcallError(f"{path}: not a point of 'fedcall utility': {describe(error)}") from None
    return points


def utility_report(points: Sequence[UtilityPoint], chosen: str | None = None) -> UtilityReport:
    """Gather points into one line per study; points that differ in their seed alone are pooled.

    Parameters
    ----------
    points : sequence of UtilityPoint
        In any order; lines come in the order of their first points.
    chosen : str, optional
        Name of the study whose own noise the sentence is about; by default the first that was trained with its own.

    Raises
    ------
    FedcallError
        If there are no points, or they are not about the same people and the same first model.
    """
    if not points:
        raise FedcallError("accuracy against epsilon needs at least one point; 'fedcall utility' makes one")
    first = points[0]
    for point in points:
        if (point.patients, point.start, point.likelihood) != (first.patients, first.start, first.likelihood):
            raise FedcallError(
                f"points of '{first.study}' and '{point.study}' are not about the same people and the same first model"
            )
    lines: dict[str, list[UtilityPoint]] = defaultdict(list)
    for point in points:
        lines[point.study].append(point)
    found = tuple(_line(own) for own in lines.values())
    start = _figures([first.start])
    return UtilityReport(
        sentence=_sentence(found, start, chosen),
        patients=first.patients,
        held_out=len(first.start),
        rare_copies=first.rare_copies,
        rare_variants=sum(person.rare[0] for person in first.start),
        start=start,
        likelihood=_figures([first.likelihood]),
        lines=found,
        notes=_notes(first.rare_copies),
        software=software(),
    )


def utility_figures(report: UtilityReport) -> dict[str, str]:
    """Draw SNPs, indels (where the truth has them) and rare SNPs against epsilon, one line per study."""
    drawn = {}
    for name, label in (("snps", "SNP F1"), ("indels", "Indel F1"), ("rare", "Recall of rare SNPs")):
        lines = {
            line_name(line): [
                (point.epsilon, estimate, point.chosen)
                for point in line.points
                if (estimate := _estimate(getattr(point, name))) is not None
            ]
            for line in report.lines
        }
        levels = {
            title: getattr(level, name).value
            for title, level in (("start", report.start), ("likelihood only", report.likelihood))
        }
        if any(lines.values()):
            drawn[name] = figures.against_epsilon(f"utility-{name}", lines, levels, label)
    return drawn


def line_name(line: UtilityCurve) -> str:
    """Return what a line is called in figures and tables."""
    return f"per {line.unit}, {line.clipping} clipping" + (", Laplace" if line.mechanism == "laplace" else "")


def point_table(point: UtilityPoint) -> str:
    """Return one point as a table of at most 80 columns."""
    epsilon = "no noise" if point.epsilon is None else f"epsilon {round_up(point.epsilon)} per {point.unit}"
    rows = [("trained", point.trained), ("start", point.start), ("likelihood", point.likelihood)]
    text = [
        f"{point.study}, {epsilon}, seed {point.seed}: {len(point.trained)} held-out people, 95 % intervals",
        f"{'model':<12}{'SNP F1':<22}{'indel F1':<22}{'rare SNP recall':<22}".rstrip(),
    ]
    for name, scores in rows:
        found = _figures([scores])
        cells = "".join(f"{_written(one):<22}" for one in (found.snps, found.indels, found.rare))
        text.append(f"{name:<12}{cells}".rstrip())
    return "\n".join(text)


def _line(points: Sequence[UtilityPoint]) -> UtilityCurve:
    groups: dict[float, list[UtilityPoint]] = defaultdict(list)
    for point in points:
        groups[point.noise_multiplier].append(point)
    scores = {noise: _once_per_seed(own) for noise, own in groups.items()}
    start = pooled_f1([points[0].start])
    quiet = pooled_f1(scores[0.0]) if 0.0 in scores else None
    first = points[0]
    return UtilityCurve(
        study=first.study,
        unit=first.unit,
        mechanism=first.mechanism,
        clipping=first.clipping,
        rounds=first.rounds,
        delta=first.delta,
        points=tuple(_point(groups[noise], scores[noise], start, quiet) for noise in sorted(groups, reverse=True)),
    )


def _once_per_seed(points: Sequence[UtilityPoint]) -> list[tuple[PersonScore, ...]]:
    """Return the scores of each seed: the study's own noise and an epsilon asked for may be the same training."""
    return list({point.seed: point.trained for point in points}.values())


def _point(points: Sequence[UtilityPoint], runs: Runs, start: Pooled, quiet: Pooled | None) -> LinePoint:
    snps = pooled_f1(runs)
    unknown = Difference(value=None, low=None, high=None)
    return LinePoint(
        **_figures(runs).model_dump(),
        epsilon=points[0].epsilon,
        noise_multiplier=points[0].noise_multiplier,
        chosen=any(point.is_own for point in points),
        seeds=len(runs),
        gain=snps.less(start),
        price=unknown if quiet is None else snps.less(quiet),
    )


def _figures(runs: Runs) -> ModelFigures:
    return ModelFigures(
        snps=pooled_f1(runs).measure, indels=pooled_f1(runs, indels=True).measure, rare=pooled_rare_recall(runs).measure
    )


def _sentence(lines: Sequence[UtilityCurve], start: ModelFigures, chosen: str | None) -> str:
    line = next(
        (
            line
            for line in lines
            if line.study == chosen or (chosen is None and any(point.chosen for point in line.points))
        ),
        lines[0],
    )
    point = next((point for point in line.points if point.chosen), line.points[0])
    budget = "without noise" if point.epsilon is None else f"at ε = {round_up(point.epsilon)} per {line.unit}"
    text = (
        f"Trained {budget}, SNP F1 is {_told(point.snps)} on held-out people, {_told(start.snps)} before training on"
        f" patients; rare SNPs are found in {_told(point.rare)} of cases instead of {_told(start.rare)}."
    )
    if point.epsilon is not None and point.price.value is not None:
        higher = "higher" if point.price.value <= 0 else "lower"
        text += f" The same training without noise has an SNP F1 {abs(point.price.value):.3f} {higher}."
    return text


def _told(measure: Measure) -> str:
    return "unknown" if measure.value is None else f"{measure.value:.3f}"


def _written(measure: Measure) -> str:
    if measure.value is None:
        return "-"
    interval = f" ({measure.low:.3f}-{measure.high:.3f})" if measure.low is not None else ""
    return f"{measure.value:.3f}{interval}"


def _estimate(measure: Measure) -> figures.Estimate | None:
    if measure.value is None:
        return None
    low = measure.value if measure.low is None else measure.low
    return figures.Estimate(measure.value, low, measure.value if measure.high is None else measure.high)


def _notes(rare_copies: int) -> tuple[Statement, ...]:
    return (
        Statement(
            topic="Whose data",
            statement="Simulated people, or people whose data is public with their consent: the training here is"
            " charged to no ledger, so people whose data is private are refused. Choosing terms by these figures is"
            " free for the same reason; what holds for these people need not hold for a hospital's.",
        ),
        Statement(
            topic="What counts",
            statement="Genotypes, as in the evaluation report: a call is right if truth has the same allele in as many"
            f" copies. Rare: at most {rare_copies} {'copy' if rare_copies == 1 else 'copies'} in the truth of everybody"
            " in this experiment; only recall can be told of them, for a false call has no frequency.",
        ),
        Statement(
            topic="Intervals",
            statement="95 % by a bootstrap over trainings (seeds), held-out people and pieces of the regions (Owen"
            " 2007); conservative. Differences are resampled in pairs, so they are known better than either figure.",
        ),
        Statement(
            topic="Two units",
            statement="An ε per example protects one candidate of one patient, a much weaker promise than the same ε"
            " per patient: lines of different units must not be compared at equal ε.",
        ),
        Statement(
            topic="Fixed and adaptive",
            statement="Adaptive clipping starts at the terms' clip norm and follows a noisy quantile; the ε on the axis"
            " pays for the quantile, too.",
        ),
    )
