"""What a hospital wins back by its own reads alone, untrained: F1 with reported and with recalibrated qualities."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.errors import FedcallError
from fedcall.experiments.changed_reads import DRAWN, SCENARIOS, write_changed
from fedcall.experiments.cohort import refuse_private
from fedcall.genomics.base_qualities.applying import reads_digest
from fedcall.genomics.base_qualities.table import write_table
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.calling.panel import Panel
from fedcall.genomics.concordance.comparison import Concordance, compare
from fedcall.genomics.concordance.pool import difference_interval, pool
from fedcall.genomics.pileup.extraction import extract_examples, spans_of
from fedcall.genomics.recalibration.counting import count_errors
from fedcall.genomics.recalibration.fitting import fit_table
from fedcall.model.inference import posteriors
from fedcall.workflow.configuration import Patient, read_samples

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


class Gain(BaseModel):
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


def read_people(sheet: Path) -> list[Patient]:
    """Return the people of a sheet who can be scored; private ones are refused: nothing is charged here."""
    rows = read_samples(sheet)
    refuse_private(sheet, rows)
    people = [row for row in rows if row.alignments and row.truth and row.regions]
    if not people:
        raise FedcallError(f"{sheet}: nobody with alignments, truth and regions, which scoring needs")
    return people


def local_gains(
    setting: Setting,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    on_person: Callable[[], object] = lambda: None,
) -> list[Gain]:
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


def as_text(gains: Sequence[Gain]) -> str:
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
    reference = person.reference or setting.reference
    assert person.alignments is not None
    assert person.regions is not None
    with tempfile.TemporaryDirectory(prefix="fedcall-local-") as folder:
        alignments, change = person.alignments, SCENARIOS[scenario]
        if change is not None:
            alignments = Path(folder) / "reads.bam"
            write_changed(person.alignments, reference, alignments, change, seed)
        counts = count_errors(alignments, reference, spans_of(alignments, reference, person.regions), setting.panel)
        table = fit_table(counts, reads_digest(alignments))
        path = Path(folder) / "table.json"
        write_table(path, table)
        reported = _concordance(setting, person, reference, alignments, None, Path(folder))
        if table.leaves_alone:
            return reported, reported, False
        return reported, _concordance(setting, person, reference, alignments, path, Path(folder)), True


def _concordance(
    setting: Setting, person: Patient, reference: Path, alignments: Path, table: Path | None, folder: Path
) -> Concordance:
    assert person.truth is not None
    assert person.regions is not None
    examples = extract_examples(alignments, reference, person.regions, recalibration=table)
    calls = folder / "calls.vcf.gz"
    name = person.sample or person.patient
    write_calls(calls, examples, posteriors(setting.tensors, examples), reference, name, Provenance("experiment"))
    return compare(person.truth, calls, person.regions, reference, sample=name, within=setting.within)


def _gain(
    scenario: str,
    seed: int,
    plain: Sequence[Concordance],
    reported: Sequence[Concordance],
    recalibrated: Sequence[Concordance],
    used: int,
) -> Gain:
    before, lost, after = (pool(side).snps.f1 or 0.0 for side in (plain, reported, recalibrated))
    own = [(mine.snps.f1 or 0.0, other.snps.f1 or 0.0) for mine, other in zip(recalibrated, reported, strict=True)]
    return Gain(
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
