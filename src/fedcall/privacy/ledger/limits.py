"""Limits on what a person may ever lose: the hospital's own, and the cap of every study that charged the person.

A hospital's administrator writes its own limit once, into `limit.yaml` beside the ledger:

    epsilon: 8.0
    delta: 1.0e-5

No study and no configuration can name another file, and what was charged under a limit stays under it for ever: the
ledger keeps the limit with each charge, so a file that is changed or removed later lifts nothing.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import Unit
from fedcall.yaml_files import read_yaml

LIMIT_FILE = "limit.yaml"


class Limit(Document):
    """What a person's (or an example's) cumulative loss over everything in the ledger must never pass."""

    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="Over all studies, ever.")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(description="Delta of that epsilon.")
    unit: Unit = Field("patient", description="What the epsilon protects: everything of a person, or one example.")

    def implies(self, other: "Limit") -> bool:
        """Say whether whoever keeps this limit keeps the other one, too."""
        return self.unit == other.unit and self.epsilon <= other.epsilon and self.delta <= other.delta


def limit_file(ledger: Path) -> Path:
    """Return the path of a hospital's own limit: beside its ledger."""
    return Path(ledger).parent / LIMIT_FILE


def read_limit(ledger: Path) -> Limit | None:
    """Return the hospital's own limit; None if there is none.

    Raises
    ------
    FedcallError
        If the file is no limit; names file, line, key and what is allowed.
    """
    path = limit_file(ledger)
    return read_yaml(path, Limit) if path.exists() else None
