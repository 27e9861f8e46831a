"""Which rows of a sheet are one person or one file: a person has one row, and data of one person belongs in one row."""

import os
from collections.abc import Sequence
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.workflow.configuration import Patient
from fedcall.workflow.table import read_table

PUBLIC = "public"


def check_rows(sheet: Path, patients: Sequence[Patient]) -> None:
    """Refuse a person in two rows, and one file in the rows of two people.

    A public person may have several rows outside of training: parts of a genome to train on and to be judged on.

    Raises
    ------
    FedcallError
        Names the rows and what to do.
    """
    people: dict[tuple[str, str], Patient] = {}
    files: dict[object, Patient] = {}
    for patient in patients:
        known = people.setdefault((patient.site, patient.charged), patient)
        if known is not patient and not (_may_repeat(known) and _may_repeat(patient)):
            raise FedcallError(
                f"{_place(sheet, patient)}: patients '{known.patient}' and '{patient.patient}' are one person"
                f" ('{patient.charged}'), and"
                " a person is one unit with one split; give one row, with the reads of both samples merged (samtools"
                " merge)"
            )
        for file in (patient.alignments, patient.reads1):
            if file is None or not file.exists():
                continue
            found = file.stat()
            if found.st_size == 0:
                continue  # nobody's reads; refused where the file is opened
            known = files.setdefault((found.st_dev, found.st_ino), patient)
            if known is not patient and not is_one_public_person(known, patient):
                raise FedcallError(
                    f"{_place(sheet, patient)}: patients '{known.patient}' and '{patient.patient}' have the same reads"
                    f" ({os.path.realpath(file)}); data of one person belongs in one row, in one split"
                )


def is_one_public_person(one: Patient, other: Patient) -> bool:
    """Say whether two rows are parts of one person whose data is public."""
    return one.charged == other.charged and _may_repeat(one) and _may_repeat(other)


def _place(sheet: Path, patient: Patient) -> str:
    """Return the sheet and the line of a patient; public people may stand in another sheet, without a line here."""
    lines = [line for line, row in read_table(sheet)[1] if row.get("patient") == patient.patient]
    return f"{sheet}:{lines[0]}" if lines else str(sheet)


def _may_repeat(patient: Patient) -> bool:
    return patient.private == "no" and patient.split != "train"
