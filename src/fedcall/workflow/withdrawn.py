"""Who has withdrawn, as far as records tell: read by every job of a workflow, so that it imports nothing heavy."""

import json
from collections.abc import Iterable
from pathlib import Path

from fedcall.errors import FedcallError

RECORDS = "withdrawals"


def records_folder(ledger: str, site: str) -> Path:
    """Return where a site's records of withdrawals lie: beside its ledger ('{site}' in it becomes the name)."""
    return Path(ledger.format(site=site)).parent / RECORDS


def record_folders(ledger: str, site: str | None) -> list[Path]:
    """Return the folders of one site's records, or, without a site, of all there are."""
    if site is not None:
        return [records_folder(ledger, site)]
    pattern = records_folder(ledger, "*")
    anchor = Path(pattern.anchor)
    return sorted(anchor.glob(str(pattern.relative_to(anchor))))


def withdrawn_names(folders: Iterable[Path]) -> frozenset[str]:
    """Return names of patients and of persons who withdrew; rows of a sheet with such a name are passed over.

    Raises
    ------
    FedcallError
        If a record cannot be read: whom it names must not be trained on.
    """
    names: set[str] = set()
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        try:
            record = json.loads(path.read_bytes())
            names |= {str(record["patient"]), str(record["person"])}
        except (OSError, ValueError, KeyError, TypeError):
            raise FedcallError(
                f"{path}: not a readable record of a withdrawal; run 'fedcall patient withdraw {path.stem}' again"
            ) from None
    return frozenset(names)
