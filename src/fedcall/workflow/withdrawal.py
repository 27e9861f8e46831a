"""A patient takes the consent back: the ledger keeps it, what was made here of the patient is deleted, a record tells.

From then on the patient contributes nothing, and nobody outside learns of it: the ledger leaves the person out as it
leaves out whoever has spent the budget, and the workflow passes over the row of the sheet. What was released before
stays released; settled rounds do not depend on the present sheet (`settled_rounds`).
"""

import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.files import replace_private
from fedcall.keys import read_secret
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.study.terms import Name, read_study
from fedcall.workflow.configuration import Config, Patient, read_config, read_samples
from fedcall.workflow.files_of_patient import FilesOfPatient, find_files
from fedcall.workflow.identity import forget_person
from fedcall.workflow.rows_of_people import PUBLIC
from fedcall.workflow.withdrawn import records_folder


class SpentInStudy(Document):
    """What one study charged the patient for; it stays charged."""

    study: str = Field(description="Digest of the study.")
    name: str | None = Field(description="Its name, if its folder is here.")
    rounds: int


class Withdrawal(Document):
    """The record for the data-protection officer. It names the patient, and stays at the hospital."""

    patient: Name
    person: str
    site: Name
    time: str = Field(description="UTC.")
    operator: str
    finished: bool = Field(description="False while files are being deleted; the same command goes on.")
    deleted: tuple[str, ...] = Field(description="Files made from the patient, now gone.")
    name_stands_in: tuple[str, ...] = Field(description="Other files in which the patient's name stands.")
    hospitals_own: tuple[str, ...] = Field(description="Files of the sheet's row: not ours to delete.")
    spent: tuple[SpentInStudy, ...]
    epsilon: float | None = Field(description="Of everything that was ever released; null: without bound.")
    delta: float | None = Field(description="Delta of that epsilon: the smallest of any study; null: never charged.")


@dataclass(frozen=True)
class Withdrawn:
    """What `withdraw` did, and where the record of it lies."""

    record: Withdrawal
    path: Path

    def lines(self) -> list[str]:
        """Return the record in words."""
        one = self.record
        lines = [f"{one.patient} contributes to nothing from now on; nothing that leaves the hospital tells so"]
        lines.append(f"deleted     {len(one.deleted)} files that were made from the patient")
        if one.name_stands_in:
            shown = ", ".join(one.name_stands_in[:3]) + (", …" if len(one.name_stands_in) > 3 else "")
            lines.append(f"name still  in {len(one.name_stands_in)} files of others or of jobs: {shown}")
        if one.hospitals_own:
            lines.append(f"yours       {', '.join(one.hospitals_own)}: delete them as the consent asks")
        for study in one.spent:
            lines.append(f"spent       {study.rounds} rounds of study {study.name or study.study[:12] + '…'}")
        lines.append(f"            {_what_stays(one)}")
        lines.append(f"record      {self.path}   (for the data-protection officer; it names the patient)")
        return lines


def withdraw(configuration: Path, name: str) -> Withdrawn:
    """Withdraw a patient of this hospital; again, it finishes what was begun and changes nothing else.

    Parameters
    ----------
    configuration : Path
        The hospital's configuration; results, logs and benchmarks are those of the working directory.
    name : str
        The patient's name in the sheet, or the person's; the row may be gone already.

    Raises
    ------
    FedcallError
        If nobody of this name is known, a workflow is running here, or files cannot be deleted.
    """
    _refuse_while_running()
    config = read_config(configuration)
    row = _row(config, name)
    site = _site(config, row)
    patient, person = (row.patient, row.charged) if row else (name, name)
    own = tuple(str(path) for path in _own_files(row)) if row else ()
    found = find_files(patient, person, (site, PUBLIC))
    folder = records_folder(config.ledger, site)
    ledger = Path(config.ledger.format(site=site))
    earlier = _read_record(folder / f"{patient}.json")
    if row is None and earlier is None and not found.made and not _is_charged(config, ledger, site, person):
        raise FedcallError(
            f"{config.samples or configuration}: nobody is called '{name}' there, in the ledger ({ledger}) or in"
            " results/; give the patient's name, or the person's (column 'person')"
        )
    with Ledger.open(ledger, read_secret(Path(config.site_key.format(site=site)))) as opened:
        spent = opened.withdraw(person)
        deltas = [float(entry.delta) for entry in opened.rows() if entry.kind == "reserve"] if spent else []
        total = opened.epsilon([person], min(deltas), "patient") if deltas else None
    record = Withdrawal(
        patient=patient,
        person=person,
        site=site,
        time=earlier.time if earlier else datetime.now(UTC).isoformat(timespec="seconds"),
        operator=earlier.operator if earlier else getpass.getuser(),
        finished=False,
        deleted=tuple(dict.fromkeys([*(earlier.deleted if earlier else ()), *map(str, found.made)])),
        name_stands_in=tuple(map(str, found.named)),
        hospitals_own=own or (earlier.hospitals_own if earlier else ()),
        spent=tuple(SpentInStudy(study=study, name=_names().get(study), rounds=rounds) for study, rounds in spent),
        epsilon=total.pld if total is not None and total.is_finite else None,
        delta=min(deltas, default=None),
    )
    path = folder / f"{patient}.json"
    replace_private(path, record.canonical())
    _delete(found)
    forget_person(Path(config.sketches.format(site=site)), person)
    record = record.model_copy(update={"finished": True})
    replace_private(path, record.canonical())
    replace_private(path.with_suffix(".txt"), ("\n".join(_letter(record)) + "\n").encode())
    return Withdrawn(record, path.with_suffix(".txt"))


def _letter(record: Withdrawal) -> list[str]:
    """Return the record as a page for the officer."""
    return [
        f"Withdrawal of consent: patient {record.patient} (person {record.person}) of {record.site}",
        f"Recorded {record.time} by {record.operator}. This page stays at the hospital.",
        "",
        "From now on the patient contributes to no training and no evaluation here: the ledger leaves the person out,",
        "under whatever name the data may come back, and tells nobody outside.",
        "",
        "Files made from the patient, deleted:",
        *(f"  {path}" for path in record.deleted or ("none",)),
        "",
        "Files in which the name still stands (jobs, other people's reports; none holds the patient's reads):",
        *(f"  {path}" for path in record.name_stands_in or ("none",)),
        "",
        "The hospital's own files, which fedcall did not make and does not delete:",
        *(f"  {path}" for path in record.hospitals_own or ("none named by a sheet",)),
        "",
        "What was released before, and stays:",
        *(f"  {one.rounds} rounds of study {one.name or 'of digest'} {one.study}" for one in record.spent),
        f"  {_what_stays(record)}",
        "Backups of this machine are not reached by any of this.",
    ]


def _what_stays(record: Withdrawal) -> str:
    if not record.spent:
        return "Nothing was ever released from this patient's data."
    bound = "without a bound" if record.epsilon is None else f"epsilon {record.epsilon:.3f} at delta {record.delta:g}"
    return (
        f"What they told stays told: {bound}, of all releases together, stays charged. The noisy updates are at the"
        " coordinator, and the models made with them at every hospital; they cannot be taken back, nor made anew"
        " without the patient."
    )


def _row(config: Config, name: str) -> Patient | None:
    if config.samples is None:
        raise FedcallError("the cohort is simulated ('cohort' in the configuration): nobody there can withdraw")
    sheets = [config.samples, *([config.public_samples] if config.public_samples else [])]
    rows = [row for sheet in sheets for row in read_samples(sheet, must_exist=False)]
    rows = [row for row in rows if row.patient == name] or [row for row in rows if row.person == name]
    if config.site is not None:
        rows = [row for row in rows if row.site in (config.site, PUBLIC) or row.split == PUBLIC]
    if len(rows) > 1:
        names = ", ".join(row.patient for row in rows)
        raise FedcallError(f"{config.samples}: '{name}' has {len(rows)} rows ({names}); withdraw each by its name")
    return rows[0] if rows else None


def _site(config: Config, row: Patient | None) -> str:
    if config.site is not None:
        return config.site
    if row is None:
        raise FedcallError("a rehearsal has several sites: leave the row in the sheet until the patient is withdrawn")
    return row.site


def _is_charged(config: Config, path: Path, site: str, person: str) -> bool:
    if not path.is_file():
        return False
    with Ledger.open_to_read(path, read_secret(Path(config.site_key.format(site=site)))) as ledger:
        return ledger.knows(person)


def _own_files(row: Patient) -> Iterable[Path]:
    files = (row.alignments, row.reads1, row.reads2, row.truth)
    return [path for path in files if path is not None and path.exists()]


def _names() -> dict[str, str]:
    found = {}
    for path in Path("results").glob("*/study.json"):
        study = read_study(path)
        found[study.digest] = study.name
    return found


def _delete(found: FilesOfPatient) -> None:
    for path in found.made:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FedcallError(f"{path}: cannot be deleted ({error.strerror}); run the same command again") from None
    for path in found.folders:
        if not any(path.iterdir()):
            path.rmdir()


def _read_record(path: Path) -> Withdrawal | None:
    try:
        return Withdrawal.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise FedcallError(f"{path}: not a record of a withdrawal; move it away and run the command again") from None


def _refuse_while_running() -> None:
    if any(Path(".snakemake/locks").glob("*")):
        raise FedcallError(
            "a workflow is running in this folder (.snakemake/locks), and would make the patient's files again; stop it"
            " first, or, if none runs, 'snakemake --unlock'"
        )
