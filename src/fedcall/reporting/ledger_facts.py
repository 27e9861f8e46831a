"""Read from a site's ledger what its privacy report needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.federation.study import Study
from fedcall.privacy.events import Event
from fedcall.privacy.ledger import Ledger

History = Sequence[tuple[Event, int]]


@dataclass(frozen=True)
class LedgerFacts:
    """What the report needs from a site's ledger.

    Attributes
    ----------
    charged : rounds of this study that are charged, ascending
    histories : per group of patients with equal charges, its events over all studies with their numbers of rounds;
        only groups that a further round of this study would charge, or all if none is charged yet
    studies, charges : numbers of studies and of charged rounds over all studies
    head : hash of the last row
    problem : why the chain of rows does not verify, or None
    """

    charged: tuple[int, ...]
    histories: tuple[History, ...]
    studies: int
    charges: int
    head: str
    problem: str | None = None


def read_ledger(path: Path, secret: bytes, study: Study, site: str) -> LedgerFacts:
    """Return the charges of a study and the histories of its patients; a broken chain is reported, not raised.

    Raises
    ------
    FedcallError
        If there is no ledger at `path`; the report never makes one.
    """
    with Ledger.open_to_read(path, secret) as ledger:
        fault = ledger.verify()
        charges = [row for row in ledger.rows() if row.kind == "reserve"]
        mine = {row.round for row in charges if (row.study, row.site) == (study.digest, site)}
        return LedgerFacts(
            charged=tuple(sorted(mine)),
            histories=tuple(ledger.histories(study.digest)),
            studies=len({row.study for row in charges}),
            charges=len(charges),
            head=ledger.head,
            problem=fault.sentence if fault else None,
        )
