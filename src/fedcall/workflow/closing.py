"""A study that its coordinator closed before its last round, as a site was told: `results/{study}/closing.json`."""

from pathlib import Path

from fedcall.documents import read_signed
from fedcall.errors import FedcallError
from fedcall.study.opening import RoundOpening
from fedcall.study.terms import read_study

CLOSING = "closing.json"


def read_closing(folder: Path) -> int | None:
    """Return the last round that counts, or None if nobody closed the study of this folder of results.

    Raises
    ------
    FedcallError
        If the file is not the coordinator's word on the study of the folder.
    """
    path = Path(folder) / CLOSING
    if not path.is_file():
        return None
    study = read_study(Path(folder) / "study.json")
    opening = read_signed(path, RoundOpening, str(study.coordinator))
    if opening.study != study.digest or opening.closed is None or not 2 <= opening.round <= study.rounds:
        raise FedcallError(f"{path}: does not close study '{study.name}'; move it away")
    return opening.round - 1
