"""People whose reads were changed: their candidates with reported and with recalibrated qualities, and their F1."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.errors import FedcallError
from fedcall.experiments.changed_reads import SCENARIOS, write_changed
from fedcall.experiments.cohort import refuse_private
from fedcall.genomics.base_qualities.applying import reads_digest
from fedcall.genomics.base_qualities.table import write_table
from fedcall.genomics.calling.calls import Provenance, write_calls
from fedcall.genomics.calling.panel import Panel
from fedcall.genomics.concordance.comparison import Concordance, compare
from fedcall.genomics.examples import Examples
from fedcall.genomics.pileup.extraction import extract_examples, spans_of
from fedcall.genomics.recalibration.counting import count_errors
from fedcall.genomics.recalibration.fitting import fit_table
from fedcall.genomics.shards import Span
from fedcall.genomics.unseen import write_bed
from fedcall.model.inference import posteriors
from fedcall.workflow.configuration import Patient, Split, read_samples


@dataclass(frozen=True)
class Seen:
    """One person's candidates.

    Attributes
    ----------
    reported : by the qualities as the reads state them
    recalibrated : by the person's own table; the same object where that leaves the reads alone
    """

    reported: Examples
    recalibrated: Examples

    @property
    def is_table_in_use(self) -> bool:
        return self.recalibrated is not self.reported


def read_people(sheet: Path, split: Split | None = None) -> list[Patient]:
    """Return the people of a sheet whose truth is known; private ones are refused: nothing is charged here.

    Raises
    ------
    PrivacyRefusal
        If anybody's data is private.
    FedcallError
        If nobody (of the split) has alignments, truth and regions.
    """
    rows = read_samples(sheet)
    refuse_private(sheet, rows)
    people = [row for row in rows if row.alignments and row.truth and row.regions and split in (None, row.split)]
    if not people:
        wanted = f" and split '{split}'" if split else ""
        raise FedcallError(f"{sheet}: nobody with alignments, truth, regions{wanted}, which this experiment needs")
    return people


def see(
    person: Patient,
    reference: Path,
    scenario: str,
    seed: int,
    spans: Sequence[Span] | None = None,
    panel: Panel | None = None,
) -> Seen:
    """Change a person's reads as a scenario says, make the person's table, and extract the candidates, with labels.

    Parameters
    ----------
    spans : where; everywhere in the person's regions if left out. Tables are made of all regions: they need no label.
    """
    assert person.alignments is not None
    assert person.regions is not None
    own = person.reference or reference
    with tempfile.TemporaryDirectory(prefix="fedcall-damaged-") as name:
        folder, alignments, change = Path(name), person.alignments, SCENARIOS[scenario]
        if change is not None:
            alignments = folder / "reads.bam"
            write_changed(person.alignments, own, alignments, change, seed)
        regions = person.regions
        if spans is not None:
            regions = folder / "regions.bed"
            write_bed(regions, spans)
        counts = count_errors(alignments, own, spans_of(alignments, own, person.regions), panel)
        table = fit_table(counts, reads_digest(alignments))
        sample = person.sample or person.patient
        reported = extract_examples(alignments, own, regions, person.truth, sample)
        if table.leaves_alone:
            return Seen(reported, reported)
        path = folder / "table.json"
        write_table(path, table)
        return Seen(reported, extract_examples(alignments, own, regions, person.truth, sample, recalibration=path))


def compare_calls(
    person: Patient, reference: Path, within: Sequence[str], examples: Examples, tensors: Mapping[str, np.ndarray]
) -> Concordance:
    """Call a person with a model and compare with the truth, as `fedcall call` and `fedcall concordance` do."""
    assert person.truth is not None
    assert person.regions is not None
    own, name = person.reference or reference, person.sample or person.patient
    with tempfile.TemporaryDirectory(prefix="fedcall-calls-") as folder:
        calls = Path(folder) / "calls.vcf.gz"
        write_calls(calls, examples, posteriors(tensors, examples), own, name, Provenance("experiment"))
        return compare(person.truth, calls, person.regions, own, sample=name, within=within)
