"""Other callers beside the study's models: paired differences, cost, and where they disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.callers.agreement import Agreement, Pattern, add_patterns
from fedcall.callers.cost import JobsCost, cost_of
from fedcall.callers.software import CallerSoftware
from fedcall.genomics.concordance.comparison import Concordance
from fedcall.genomics.concordance.figures import Figures
from fedcall.genomics.concordance.pool import Figure, difference_interval, pool
from fedcall.reporting.evaluation.documents import (
    Caller,
    CallerCost,
    CallerDifference,
    Difference,
    PatientDisagreement,
    Type,
)
from fedcall.reporting.evaluation.inputs import Result, callers_of, of_caller

DRAWN_DISAGREEMENTS = 20
TYPES: tuple[Type, ...] = ("snps", "indels", "all")


@dataclass(frozen=True)
class Beside:
    """What is known of the callers besides their concordances.

    Attributes
    ----------
    agreements : by (site, patient)
    benchmarks : folder of Snakemake's benchmark files; None: costs are not told
    """

    agreements: Mapping[tuple[str, str], Agreement]
    benchmarks: Path | None = None


NOTHING_BESIDE = Beside({})


@dataclass(frozen=True)
class Side:
    """One caller's concordances, in the order of the patients, and their sum."""

    concordances: Sequence[Concordance]
    pooled: Concordance

    @staticmethod
    def of(concordances: Sequence[Concordance]) -> "Side":
        """Pool the concordances."""
        return Side(concordances, pool(concordances))


@dataclass(frozen=True)
class Differences:
    """Paired differences for one type of variant."""

    type: Type
    precision: Difference
    recall: Difference
    f1: Difference


def caller_differences(results: Sequence[Result]) -> tuple[CallerDifference, ...]:
    """Return the final model's figures less those of each other caller, on the same patients, in pairs."""
    final = Side.of(of_caller(results, "final"))
    return tuple(
        CallerDifference(caller=caller, **vars(row))
        for caller in callers_of(results)
        if caller != "final"
        for row in paired_differences(final, Side.of(of_caller(results, caller)))
    )


def paired_differences(ours: Side, theirs: Side) -> list[Differences]:
    """Return the figures of `ours` less those of `theirs`, with paired 95 % intervals, by type of variant."""
    types = [kind for kind in TYPES if kind != "indels" or ours.pooled.label_types == "all"]
    return [
        Differences(
            kind,
            _difference(ours, theirs, kind, "precision"),
            _difference(ours, theirs, kind, "recall"),
            _difference(ours, theirs, kind, "f1"),
        )
        for kind in types
    ]


def _difference(ours: Side, theirs: Side, kind: Type, figure: Figure) -> Difference:
    first, second = (_figure(side.pooled, kind, figure) for side in (ours, theirs))
    if first is None or second is None:
        return Difference(value=None, low=None, high=None)
    low, high = difference_interval(ours.concordances, theirs.concordances, kind, figure) or (None, None)
    return Difference(value=first - second, low=low, high=high)


def caller_costs(results: Sequence[Result], study: str, benchmarks: Path) -> tuple[CallerCost, ...]:
    """Return what each caller cost on the patients of the results whose benchmark files are there."""
    rows = []
    for caller in callers_of(results):
        found: list[tuple[JobsCost, int]] = []
        for result in results:
            cost = cost_of(benchmarks, study, result.site, caller, result.patient) if result.caller == caller else None
            if cost is not None:
                found.append((cost, result.concordance.regions_bases))
        if found:
            rows.append(
                _cost(caller, JobsCost.total([cost for cost, _ in found]), sum(bases for _, bases in found), len(found))
            )
    return tuple(rows)


def software_of_callers(agreements: Mapping[tuple[str, str], Agreement]) -> tuple[CallerSoftware, ...]:
    """Return the programs behind the callers, each once; where patients differ, every version that was used."""
    seen = {one: None for _, own in sorted(agreements.items()) for one in own.callers}
    order = list(dict.fromkeys(one.caller for one in seen))
    return tuple(sorted(seen, key=lambda one: order.index(one.caller)))


def worst_disagreements(agreements: Mapping[tuple[str, str], Agreement]) -> tuple[PatientDisagreement, ...]:
    """Return the worst disagreements of all patients, worst first."""
    everyone = [
        PatientDisagreement(site=site, patient=patient, disagreement=one)
        for (site, patient), own in sorted(agreements.items())
        for one in own.disagreements
    ]
    return tuple(sorted(everyone, key=lambda one: -one.disagreement.severity)[:DRAWN_DISAGREEMENTS])


def patterns_of(agreements: Mapping[tuple[str, str], Agreement]) -> tuple[Pattern, ...]:
    """Return which callers have how many alleles together, over all patients."""
    return add_patterns([own for _, own in sorted(agreements.items())])


def _cost(caller: Caller, cost: JobsCost, bases: int, patients: int) -> CallerCost:
    per_mb = cost.cpu_seconds / bases * 1e6 if cost.cpu_seconds is not None and bases else None
    return CallerCost(
        caller=caller,
        cpu_seconds=cost.cpu_seconds,
        cpu_seconds_per_mb=per_mb,
        memory_mb=cost.memory_mb,
        jobs=cost.jobs,
        patients=patients,
    )


def _figure(pooled: Concordance, kind: Type, figure: Figure) -> float | None:
    figures: Figures | None = {"snps": pooled.snps, "indels": pooled.indels, "all": pooled.all}[kind]
    if figures is None:
        return None
    return {"precision": figures.precision, "recall": figures.recall, "f1": figures.f1}[figure]
