"""What wins back wrong chemistry: joint training, own tables, a hospital's own fit, and a fit on the joint model."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.experiments.changed_reads import DRAWN
from fedcall.experiments.damaged_people import Seen, compare_calls, see
from fedcall.experiments.federation import federate, with_sites
from fedcall.genomics.concordance.comparison import Concordance
from fedcall.genomics.concordance.pool import difference_interval, pool
from fedcall.genomics.examples import Examples
from fedcall.genomics.unseen import training_regions, unseen_regions
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.study.terms import Study
from fedcall.training.own_chemistry import fit_own_chemistry
from fedcall.workflow.configuration import Patient

AS_THEY_ARE = "as they are"
Means = Literal["neither", "joint", "local", "fitted", "both"]
MEANS: tuple[Means, ...] = ("neither", "joint", "local", "fitted", "both")
"""Joint: the model that hospitals train together. Local: each person's own table of base qualities. Fitted: a
hospital's own chemistry (`training.own_chemistry`), on the first model; both: on the joint one. Scored people are dealt
out to the hospitals in turn."""


@dataclass(frozen=True)
class ChemistryCohort:
    """Whose reads are changed: those of all hospitals' patients, trained on or not.

    Attributes
    ----------
    training : by hospital
    scored : whom nobody trains on, with the hospitals' chemistry
    within : regions that nobody trains on and everybody is scored in (CONTIG:FIRST-LAST)
    """

    training: Mapping[str, Sequence[Patient]]
    scored: Sequence[Patient]
    reference: Path
    within: Sequence[str]


class PairedDifference(BaseModel):
    """Of F1 of SNPs, over the same people, with a paired 95 % interval."""

    value: float
    interval: tuple[float, float] | None
    worse: int  # people whose own F1 fell


class ChemistryRow(BaseModel):
    """One scenario, one seed; figures of SNPs, or of indels where the truth has them."""

    scenario: str
    seed: int
    trainable: str
    epsilon: float | None  # per patient, by the study's terms; None without noise
    people: int
    tables_in_use: int
    clean: float  # the first model on the same people as they are
    f1: dict[Means, float]
    gained: dict[Means, PairedDifference]  # against neither
    indel_f1: dict[Means, float] | None
    elsewhere: PairedDifference  # the joint model against the first one, on the same people as they are

    def won_back(self, means: Means) -> float | None:
        """Return the share of the loss that came back; None where less than a thousandth was lost."""
        lost = self.clean - self.f1["neither"]
        return self.gained[means].value / lost if lost >= 1e-3 else None


@dataclass(frozen=True)
class _Prepared:
    training: dict[str, dict[str, Seen]]
    scored: list[Seen]


def chemistry_rows(
    study: Study,
    initial: Mapping[str, np.ndarray],
    cohort: ChemistryCohort,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    on_row: Callable[[ChemistryRow], object] = lambda row: None,
) -> list[ChemistryRow]:
    """Change the reads, train, and call the scored people by all four means, in each scenario and with each seed.

    Parameters
    ----------
    study : Study
        Terms; sites, keys and weights may be missing.
    initial : float32 tensors by name
        The first global model.
    on_row : callable
        Called with each row when it is there.
    """
    trained = _with_patients(study, cohort)
    noise = study.privacy.noise_multiplier
    epsilon = study_epsilon(study.privacy, study.rounds).pld if noise else None
    plain = _prepared(cohort, AS_THEY_ARE, 0)
    first = _called(cohort, [one.reported for one in plain.scored], initial)
    rows = []
    for scenario in scenarios:
        made: _Prepared | None = None
        for seed in seeds:
            if made is None or scenario in DRAWN:
                made = plain if scenario == AS_THEY_ARE else _prepared(cohort, scenario, seed)
            found, elsewhere = _by_all_means(trained, initial, cohort, made, plain, seed)
            row = ChemistryRow(
                scenario=scenario,
                seed=seed,
                trainable=study.model.trainable,
                epsilon=epsilon,
                people=len(cohort.scored),
                tables_in_use=sum(one.is_table_in_use for one in made.scored),
                clean=_f1(first),
                f1={means: _f1(found[means]) for means in MEANS},
                gained={means: _difference(found[means], found["neither"]) for means in MEANS},
                indel_f1=_indel_f1(found),
                elsewhere=_difference(elsewhere, first),
            )
            rows.append(row)
            on_row(row)
    return rows


def as_text(rows: Sequence[ChemistryRow]) -> str:
    """Return the rows as a table; won back in percent of what the scenario costs."""
    lines = [f"{'reads':24}{'seed':>5}{'lost':>8}" + "".join(f"  {means:<34}" for means in MEANS[1:]) + "elsewhere"]
    for row in rows:
        cells = "".join(f"  {_cell(row, means):<34}" for means in MEANS[1:])
        lost = row.f1["neither"] - row.clean
        lines.append(f"{row.scenario:24}{row.seed:5d}{lost:+8.4f}{cells}{_shown(row.elsewhere)}")
    return "\n".join(lines)


def _cell(row: ChemistryRow, means: Means) -> str:
    share = row.won_back(means)
    return f"{row.f1[means]:.4f} {_shown(row.gained[means])}" + ("" if share is None else f" {100 * share:.0f} %")


def _shown(found: PairedDifference) -> str:
    return f"{found.value:+.4f}" + (f" ({found.interval[0]:+.3f} {found.interval[1]:+.3f})" if found.interval else "")


def _with_patients(study: Study, cohort: ChemistryCohort) -> Study:
    try:
        terms = study.privacy.model_copy(update={"max_epsilon": None})
        own = study.model_copy(update={"privacy": terms, "evaluation": None})
        return with_sites(own, {site: len(people) for site, people in cohort.training.items()})
    except ValidationError as error:
        raise FedcallError(f"study '{study.name}' with these hospitals: {describe(error)}") from None


def _prepared(cohort: ChemistryCohort, scenario: str, seed: int) -> _Prepared:
    number = itertools.count(1000 * seed)
    training: dict[str, dict[str, Seen]] = {}
    for site, people in cohort.training.items():
        for person in people:
            reference = person.reference or cohort.reference
            spans = training_regions(person.regions, reference, cohort.within)
            seen = see(person, cohort.reference, scenario, next(number), spans)
            training.setdefault(site, {})[person.patient] = seen
    scored = []
    for person in cohort.scored:
        assert person.regions is not None
        spans = unseen_regions(person.regions, person.reference or cohort.reference, cohort.within, None)
        scored.append(see(person, cohort.reference, scenario, next(number), spans))
    return _Prepared(training, scored)


def _by_all_means(
    study: Study,
    initial: Mapping[str, np.ndarray],
    cohort: ChemistryCohort,
    made: _Prepared,
    plain: _Prepared,
    seed: int,
) -> tuple[dict[Means, list[Concordance]], list[Concordance]]:
    """Return calls by all means, and calls of people as they are by the joint model, against the truth."""
    secret = b"chemistry by training and by own tables" + seed.to_bytes(9, "big")
    reported = {site: {name: one.reported for name, one in own.items()} for site, own in made.training.items()}
    joint = federate(study, initial, reported, secret)
    fitted, both = ([fit_own_chemistry(start, own).tensors for own in reported.values()] for start in (initial, joint))
    as_reported, as_measured = [one.reported for one in made.scored], [one.recalibrated for one in made.scored]
    found: dict[Means, list[Concordance]] = {
        "neither": _called(cohort, as_reported, initial),
        "joint": _called(cohort, as_reported, joint),
        "local": _called(cohort, as_measured, initial),
        "fitted": _called(cohort, as_reported, *fitted),
        "both": _called(cohort, as_reported, *both),
    }
    return found, _called(cohort, [one.reported for one in plain.scored], joint)


def _called(
    cohort: ChemistryCohort, examples: Sequence[Examples], *models: Mapping[str, np.ndarray]
) -> list[Concordance]:
    """Call everybody with a model, or each with that of a hospital, the hospitals in turn."""
    return [
        compare_calls(person, cohort.reference, cohort.within, one, tensors)
        for person, one, tensors in zip(cohort.scored, examples, itertools.cycle(models), strict=False)
    ]


def _f1(found: Sequence[Concordance]) -> float:
    return pool(found).snps.f1 or 0.0


def _indel_f1(found: Mapping[Means, Sequence[Concordance]]) -> dict[Means, float] | None:
    pooled: dict[Means, float] = {}
    for means in MEANS:
        indels = pool(found[means]).indels
        if indels is None:
            return None
        pooled[means] = indels.f1 or 0.0
    return pooled


def _difference(after: Sequence[Concordance], before: Sequence[Concordance]) -> PairedDifference:
    pairs = [(mine.snps.f1 or 0.0, other.snps.f1 or 0.0) for mine, other in zip(after, before, strict=True)]
    return PairedDifference(
        value=_f1(after) - _f1(before),
        interval=difference_interval(after, before),
        worse=sum(mine < other for mine, other in pairs),
    )
