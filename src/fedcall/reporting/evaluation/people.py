"""Who the scored patients are, by the sheets: several rows may be parts of one public person, also one trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.workflow.configuration import read_samples


@dataclass(frozen=True)
class Person:
    """The person of a row."""

    name: str
    is_trained_on: bool = False  # in any row of any sheet of the run


def read_people(sheets: Sequence[Path]) -> Mapping[str, Person]:
    """Return the person of every row of these sheets, by the row's name; files that are gone by now are not missed.

    Raises
    ------
    FedcallError
        If a sheet cannot be read.
    """
    rows = [row for sheet in sheets for row in read_samples(sheet, must_exist=False)]
    trained = {row.charged for row in rows if row.split in ("train", "public")}
    return {row.patient: Person(row.charged, row.charged in trained) for row in rows}
