"""The people of a run and their data, checked before any job: the same data once, and nobody private as public.

It reads the first reads of every patient and asks the hospital's ledger; `fedcall check` and the start of a workflow do
it, once. What names and paths alone tell is in `rows_of_people`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.keys import read_secret
from fedcall.privacy.ledger.limits import read_limit
from fedcall.privacy.ledger.requests import Member
from fedcall.workflow.configuration import Patient, Split, read_samples
from fedcall.workflow.rows_of_people import PUBLIC, check_rows, is_one_public_person
from fedcall.workflow.run import Run

if TYPE_CHECKING:
    from fedcall.privacy.ledger.ledger import Ledger


def check_data(run: Run) -> None:
    """Refuse the same data under two names, in this run or between it and the ledger, and charged people as public.

    Raises
    ------
    FedcallError, PrivacyRefusal
        Name the rows and what to do.
    """
    if run.config.cohort is not None:
        for site in run.sites:
            read_limit(Path(run.config.ledger.format(site=site)))
        return  # simulated by ourselves
    # Imported here: a workflow loads its run in every job, and asks the ledger once.
    from fedcall.privacy.ledger.ledger import Ledger

    members = {patient.patient: member_of(run.config.reference, patient) for patient in run.patients}
    owners: dict[str, Patient] = {}
    for patient in run.patients:
        for data in members[patient.patient].fingerprints:
            known = owners.setdefault(data, patient)
            if known is not patient and not is_one_public_person(known, patient):
                raise FedcallError(
                    f"{run.config.samples}: patients '{known.patient}' and '{patient.patient}' have the same reads, in"
                    " two files; data of one person belongs in one row, in one split"
                )
    for site in run.sites:
        path, keys = (Path(text.format(site=site)) for text in (run.config.ledger, run.config.site_key))
        read_limit(path)
        if not path.is_file() or not (keys / "secret").is_file():
            continue
        here = [patient for patient in run.patients if patient.site in (site, PUBLIC)]
        with Ledger.open_to_read(path, read_secret(keys)) as ledger:
            _ask(ledger, [(patient, members[patient.patient]) for patient in here], run.judging.get(site, ()))


def member_of(reference: Path | None, patient: Patient) -> Member:
    """Return a patient as the ledger knows people: by the person's name and by the reads."""
    from fedcall.genomics.fingerprints import reads_fingerprint

    data = reads_fingerprint(patient.alignments, patient.reads1, patient.reference or reference)
    return Member(patient.patient, patient.charged, data, patient.private == "yes")


def people_of_sheet(sheet: Path, site: str, reference: Path | None, split: Split = "train") -> dict[str, Member]:
    """Return who each training or held-out patient of a site is, for training and for the private judge.

    Files that are gone by then are not missed.
    """
    rows = read_samples(sheet, must_exist=False)
    check_rows(sheet, rows)
    return {row.patient: member_of(reference, row) for row in rows if (row.site, row.split) == (site, split)}


def _ask(ledger: "Ledger", people: Sequence[tuple[Patient, Member]], judging: Sequence[str]) -> None:
    withdrawn = ledger.withdrawn(member.person for _, member in people)
    if withdrawn:
        raise PrivacyRefusal(
            f"person '{withdrawn[0]}' has withdrawn, says {ledger.path}, and the record of it is gone: run 'fedcall"
            " patient withdraw' again, or take the row out of the sheet"
        )
    open_people = [member for patient, member in people if patient.split == PUBLIC or patient.private == "no"]
    charged = ledger.charged_private(open_people)
    if charged:
        raise PrivacyRefusal(
            f"patient '{charged[0].patient}': {ledger.path} has charged this person, or this data, as private; who was"
            " ever private is never public, simulated or free to experiment with: take the row out, or write 'yes' in"
            " the column 'private'"
        )
    charged_now = [patient.split == "train" or patient.patient in judging for patient, _ in people]
    closed = [member for (_, member), now in zip(people, charged_now, strict=True) if now or member.is_private]
    if closed:
        ledger.refuse_same_data(closed)
