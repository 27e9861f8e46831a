"""What a hospital wins back by its own reads alone, untrained: F1 with reported and with recalibrated qualities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.experiments.changed_reads import DRAWN
from fedcall.experiments.damaged_people import compare_calls, see
from fedcall.genomics.calling.panel import Panel
from fedcall.genomics.concordance.comparison import Concordance
from fedcall.genomics.concordance.pool import difference_interval, pool
from fedcall.workflow.configuration import Patient

AS_THEY_ARE = "as they are"


@dataclass(frozen=True)
class Setting:
    """Whom and where to call, and with what.

    Attributes
    ----------
    people : each with a truth and regions
    within : regions to score in (CONTIG:FIRST-LAST); none: everywhere
    tensors : the model's
    """

    people: Sequence[Patient]
    reference: Path
    within: Sequence[str]
    tensors: Mapping[str, np.ndarray]
    panel: Panel | None = None


class RecalibrationGain(BaseModel):
    """F1 of SNPs over all people, and differences with paired 95 % intervals."""

    scenario: str
    seed: int
    people: int
    tables_in_use: int  # people whose reads were not left alone
    reported: float
    recalibrated: float
    lost: float  # of the same people's F1 as they are, by the scenario
    lost_interval: tuple[float, float] | None
    gained: float  # by recalibration
    gained_interval: tuple[float, float] | None
    worse: int  # people whose own F1 fell


def local_gains(
    setting: Setting,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    on_person: Callable[[], object] = lambda: None,
) -> list[RecalibrationGain]:
    """Call everybody in each scenario, with reported and with recalibrated qualities."""
    plain: list[Concordance] = []
    gains = []
    for scenario in dict.fromkeys((AS_THEY_ARE, *scenarios)):
        for seed in seeds if scenario in DRAWN else seeds[:1]:
            reported, recalibrated, used = [], [], 0
            for index, person in enumerate(setting.people):
                both = _call_person(setting, person, scenario, 1000 * seed + index)
                reported.append(both[0])
                recalibrated.append(both[1])
                used += both[2]
                on_person()
            plain = plain or reported
            if scenario in scenarios:
                gains.append(_gain(scenario, seed, plain, reported, recalibrated, used))
    return gains


def as_text(gains: Sequence[RecalibrationGain]) -> str:
    """Return the gains as a table."""
    lines = [
        f"{'reads':24}{'seed':>5}{'reported':>10}{'lost':>26}{'own table':>11}{'gained':>26}{'tables':>8}{'worse':>7}"
    ]
    for one in gains:
        lines.append(
            f"{one.scenario:24}{one.seed:5d}{one.reported:10.3f}{_with(one.lost, one.lost_interval):>26}"
            f"{one.recalibrated:11.3f}{_with(one.gained, one.gained_interval):>26}"
            f"{one.tables_in_use:5d}/{one.people}{one.worse:7d}"
        )
    return "\n".join(lines)


def _with(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def _call_person(setting: Setting, person: Patient, scenario: str, seed: int) -> tuple[Concordance, Concordance, bool]:
    seen = see(person, setting.reference, scenario, seed, panel=setting.panel)
    reported = compare_calls(person, setting.reference, setting.within, seen.reported, setting.tensors)
    if not seen.is_table_in_use:
        return reported, reported, False
    own = compare_calls(person, setting.reference, setting.within, seen.recalibrated, setting.tensors)
    return reported, own, True


def _gain(
    scenario: str,
    seed: int,
    plain: Sequence[Concordance],
    reported: Sequence[Concordance],
    recalibrated: Sequence[Concordance],
    used: int,
) -> RecalibrationGain:
    before, lost, after = (pool(side).snps.f1 or 0.0 for side in (plain, reported, recalibrated))
    own = [(mine.snps.f1 or 0.0, other.snps.f1 or 0.0) for mine, other in zip(recalibrated, reported, strict=True)]
    return RecalibrationGain(
        scenario=scenario,
        seed=seed,
        people=len(plain),
        tables_in_use=used,
        reported=lost,
        recalibrated=after,
        lost=lost - before,
        lost_interval=difference_interval(reported, plain) if reported is not plain else None,
        gained=after - lost,
        gained_interval=difference_interval(recalibrated, reported),
        worse=sum(mine < other for mine, other in own),
    )
