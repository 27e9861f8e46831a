"""A study that its coordinator closed before its last round, as a site was told: `results/{study}/closing.json`."""

from pathlib import Path

from fedcall.documents import read_signed
from fedcall.errors import FedcallError
from fedcall.study.opening import RoundOpening
from fedcall.study.terms import Study, read_study

CLOSING = "closing.json"


def read_closing(folder: Path) -> int | None:
    """Return the last round that counts, or None if nobody closed the study of this folder of results.

    Raises
    ------
    FedcallError
        If the file is not the coordinator's word on the study of the folder.
    """
    path = Path(folder) / CLOSING
    return closed_after(path, read_study(Path(folder) / "study.json")) if path.is_file() else None


def closed_after(path: Path, study: Study) -> int | None:
    """Return the last round that counts by the coordinator's word kept in a file; None without the file.

    Raises
    ------
    FedcallError
        If the file is not the coordinator's word on this study.
    """
    if not path.is_file():
        return None
    opening = read_signed(path, RoundOpening, str(study.coordinator))
    if opening.study != study.digest or opening.closed is None or not 2 <= opening.round <= study.rounds:
        raise FedcallError(f"{path}: does not close study '{study.name}'; move it away")
    return opening.round - 1
