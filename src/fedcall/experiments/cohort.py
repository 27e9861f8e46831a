"""The people of an experiment, from sheets of the workflow; nobody whose data is private is among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.genomics.examples import Examples, open_examples
from fedcall.genomics.truth.allele_counts import Allele, count_alleles
from fedcall.workflow.configuration import Patient, read_samples

RARE_SHARE = 0.02
"""A variant is rare if at most this share of the cohort's chromosomes carry it, or a single one does."""


@dataclass(frozen=True)
class ScoredPerson:
    """Somebody to score models on: encoded candidates, and the files that calls are compared with."""

    name: str
    examples: Examples
    truth: Path
    regions: Path
    reference: Path


@dataclass(frozen=True)
class StudyCohort:
    """Who trains at which site, who is scored, and how often each allele is carried among all of them."""

    training: dict[str, dict[str, Examples]]
    held_out: tuple[ScoredPerson, ...]
    copies: dict[Allele, int]

    @property
    def rare_copies(self) -> int:
        """The most copies that a rare variant has."""
        people = sum(len(patients) for patients in self.training.values()) + len(self.held_out)
        return max(1, int(RARE_SHARE * 2 * people))


def refuse_private(sheet: Path, rows: Sequence[Patient]) -> None:
    """Raise PrivacyRefusal if the rows hold anybody whose data is private: experiments charge no ledger."""
    private = [row for row in rows if row.private == "yes" and row.split != "public"]
    if private:
        raise PrivacyRefusal(
            f"{sheet}: {len(private)} of {len(rows)} people are private ('{private[0].patient}' first), and experiments"
            " charge no ledger: use simulated people, or people with 'no' in the column 'private', whose data is public"
        )


def open_cohort(sheet: Path, reference: Path, results: Path) -> StudyCohort:
    """Open what the workflow made of the people of a sheet.

    Parameters
    ----------
    sheet : Path
        Splits 'train' and 'holdout' are used; 'public' people make a study's first model, not its experiments.
    reference : Path
        For rows that name none.
    results : Path
        Folder of a study's results: SITE/examples/PATIENT.safetensors, SITE/labels/PATIENT.vcf.gz.

    Raises
    ------
    PrivacyRefusal
        If anybody's data is private.
    FedcallError
        If a file is missing, nobody trains, or nobody can be scored.
    """
    rows = [row for row in read_samples(sheet) if row.split != "public" and row.site != "public"]
    refuse_private(sheet, rows)
    training: dict[str, dict[str, Examples]] = {}
    held_out = []
    for row in rows:
        if row.split == "train":
            training.setdefault(row.site, {})[row.patient] = _examples(results, row)
        elif row.truth is not None:
            regions = results / row.site / "regions" / f"{row.patient}.bed" if row.has_gvcf_regions else row.regions
            if regions is None:
                raise FedcallError(f"{sheet}: '{row.patient}' is held out without 'regions' to be scored in")
            held_out.append(
                ScoredPerson(
                    row.patient, _examples(results, row), _labels(results, row), regions, row.reference or reference
                )
            )
    for split, found in (("train", training), ("holdout", held_out)):
        if not found:
            raise FedcallError(f"{sheet}: nobody has split '{split}'; accuracy against epsilon needs both")
    copies = count_alleles(_labels(results, row) for row in rows if row.truth is not None)
    return StudyCohort(training, tuple(held_out), dict(copies))


def _examples(results: Path, row: Patient) -> Examples:
    return open_examples(results / row.site / "examples" / f"{row.patient}.safetensors")


def _labels(results: Path, row: Patient) -> Path:
    return results / row.site / "labels" / f"{row.patient}.vcf.gz"
