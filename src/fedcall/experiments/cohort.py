"""Simulated people for experiments: made once, read back afterwards."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pysam

from fedcall import __version__
from fedcall.configuration import SimulatedCohort, Split
from fedcall.files import write_text
from fedcall.genomics.examples import SCALARS, SCHEMA, Examples, open_examples, write_examples
from fedcall.genomics.pileup import extract_examples
from fedcall.genomics.simulate import simulate_cohort

Variant = tuple[int, str, str]
"""0-based position, REF and ALT."""


@dataclass(frozen=True)
class Person:
    """One simulated person: encoded candidates with labels, and everything the truth knows."""

    name: str
    site: str
    split: Split
    examples: Examples
    truth: dict[Variant, int]  # copies, 1 or 2


def simulated_people(cohort: SimulatedCohort, cache: Path) -> list[Person]:
    """Return the people of a cohort, simulated and encoded once: `cache` keeps them by what made them."""
    made_by = "\n".join([__version__, SCHEMA, *SCALARS, cohort.digest])
    folder = Path(cache) / f"cohort-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
    done = folder / "done"
    if not done.is_file():
        simulate_cohort(cohort, folder)
        for row in cohort.patients(folder):
            examples = extract_examples(
                folder / f"{row.patient}.bam", folder / "reference.fa", row.regions, row.truth, row.patient
            )
            write_examples(folder / f"{row.patient}.safetensors", examples)
        write_text(done, "")
    return [
        Person(
            row.patient,
            row.site,
            row.split,
            open_examples(folder / f"{row.patient}.safetensors"),
            _truth(folder, row.patient),
        )
        for row in cohort.patients(folder)
    ]


def _truth(folder: Path, patient: str) -> dict[Variant, int]:
    with open(folder / "regions.bed") as handle:
        contig, start, end = handle.readline().split()
    with pysam.VariantFile(str(folder / f"{patient}.truth.vcf.gz")) as variants:
        return {
            (record.start, str(record.ref), str(record.alts[0])): sum(record.samples[0]["GT"])
            for record in variants.fetch(contig, int(start), int(end))
        }
