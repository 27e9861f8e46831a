"""Read from a site's ledger what its privacy report needs."""

from pathlib import Path

from fedcall.federation.study import Study
from fedcall.privacy.ledger import Ledger
from fedcall.reporting.privacy_report import LedgerFacts


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
