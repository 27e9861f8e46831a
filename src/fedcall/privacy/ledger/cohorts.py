"""Who was in a round: those who were charged, and those whose budget was spent and who contributed nothing.

The list is decided once, when a round is charged, and kept as a document whose digest the row holds. A list of an
older fedcall is a JSON list of pseudonyms, all of them charged, in the table `cohorts`. Newer ones lie in
`memberships`, where an older fedcall does not look: it then refuses the ledger instead of overlooking a charge.
"""

import base64
import json
import sqlite3
from dataclasses import dataclass

import numpy as np

from fedcall.privacy.ledger.limits import Limit
from fedcall.privacy.ledger.registry import PatientRegistry

SCHEMA = """
CREATE TABLE IF NOT EXISTS memberships (
    digest TEXT PRIMARY KEY,        -- SHA-256 of the document
    document TEXT NOT NULL          -- JSON: see cohorts.py
) STRICT;
"""


@dataclass(frozen=True)
class Cohort:
    """Who took part in a round, by pseudonym or, in `charged` and `exhausted`, by number in the registry."""

    charged: np.ndarray  # int64, ascending
    exhausted: np.ndarray
    limit: Limit | None = None  # the hospital's own, at that time
    entries: int = 0  # of the registry
    registry: str = ""  # digest of so many entries
    cap_if_broken: Limit | None = None  # the study's, on what pooled noise costs if single updates are seen
    pseudonyms: tuple[str, ...] | None = None  # an older fedcall's list; then the arrays are empty

    def to_json(self) -> str:
        """Return the document."""
        values = {
            "format": 2,
            "charged": _packed(self.charged),
            "exhausted": _packed(self.exhausted),
            "limit": self.limit.model_dump() if self.limit else None,
            "entries": self.entries,
            "registry": self.registry,
        }
        if self.cap_if_broken:
            values["cap_if_broken"] = self.cap_if_broken.model_dump()
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Cohort":
        """Return the cohort that a document tells of."""
        values = json.loads(text)
        if isinstance(values, list):
            nobody = np.empty(0, np.int64)
            return cls(nobody, nobody, pseudonyms=tuple(values))
        limit, cap = values["limit"], values.get("cap_if_broken")
        return cls(
            _unpacked(values["charged"]),
            _unpacked(values["exhausted"]),
            Limit.model_validate(limit) if limit else None,
            values["entries"],
            values["registry"],
            Limit.model_validate(cap) if cap else None,
        )

    def size(self) -> int:
        """Return how many people were charged."""
        return len(self.charged) if self.pseudonyms is None else len(self.pseudonyms)


def read_documents(database: sqlite3.Connection) -> dict[str, str]:
    """Return all lists as they are stored, by digest."""
    documents = dict(database.execute("SELECT digest, patients FROM cohorts"))
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'memberships'").fetchone():
        documents |= dict(database.execute("SELECT digest, document FROM memberships"))
    return documents


def sealed(
    charged: np.ndarray,
    exhausted: np.ndarray,
    limit: Limit | None,
    registry: PatientRegistry,
    cap_if_broken: Limit | None = None,
) -> Cohort:
    """Return a cohort that vouches for the registry as it is now."""
    return Cohort(np.sort(charged), np.sort(exhausted), limit, len(registry.entries), registry.digest, cap_if_broken)


def _packed(people: np.ndarray) -> str:
    bits = np.zeros(int(people.max()) + 1 if len(people) else 0, np.uint8)
    bits[people] = 1
    return base64.b64encode(np.packbits(bits, bitorder="little").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.flatnonzero(np.unpackbits(packed, bitorder="little")).astype(np.int64)
