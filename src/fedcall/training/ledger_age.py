"""Whether a ledger is the newest one: an old copy, put back, would spend budgets a second time.

A ledger cannot tell its own age, so two witnesses outside it do. Every receipt of the aggregator echoes the row of the
ledger that the claim named, and a file in the key folder names the newest row that training ever saw, in any study.
A ledger that lacks one of these rows is not the one that was charged.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fedcall.documents import read_signed
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import write_text
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.study.claims import Receipt
from fedcall.study.terms import Study

MEMORY = "ledger.head"  # in the key folder, which is not backed up and restored with the ledger


def refuse_older_ledger(path: Path, keys: Path, study: Study, site: str, receipts: Sequence[Path]) -> None:
    """Refuse to go on from a ledger that lacks a row which a receipt or the key folder names.

    Raises
    ------
    PrivacyRefusal
        If a row is missing, or the whole ledger.
    FedcallError
        If a receipt is not the coordinator's, or answers another site.
    """
    witnesses = [*_remembered(keys), *_received(study, site, receipts)]
    if not witnesses:
        return
    remedy = "restore the newest ledger (docs/sharp-edges.md, 'An old ledger')"
    if not Path(path).is_file():
        raise PrivacyRefusal(f"{path}: no ledger here, but {witnesses[0][0]} names a row of one; {remedy}")
    with Ledger.open_to_read(path) as ledger:
        for witness, row in witnesses:
            if not ledger.has_row(row):
                raise PrivacyRefusal(f"{path}: lacks the row {row[:12]}… that {witness} names, so it is old; {remedy}")


def remember_ledger(keys: Path, ledger: Ledger) -> None:
    """Write the newest row of a ledger into the key folder."""
    path = Path(keys) / MEMORY
    try:
        write_text(path, ledger.head + "\n")
    except OSError as error:
        raise FedcallError(f"{path}: {error.strerror}; training must remember there which ledger it charged") from None


def _remembered(keys: Path) -> Iterable[tuple[str, str]]:
    path = Path(keys) / MEMORY
    try:
        yield str(path), path.read_text().strip()
    except FileNotFoundError:
        return


def _received(study: Study, site: str, receipts: Sequence[Path]) -> Iterable[tuple[str, str]]:
    for path in receipts:
        receipt = read_signed(path, Receipt, str(study.coordinator))
        if (receipt.study, receipt.site) != (study.digest, site):
            raise FedcallError(
                f"{path}: answers site '{receipt.site}' in study {receipt.study[:12]}…, not '{site}' here"
            )
        if receipt.ledger_head:
            yield str(path), receipt.ledger_head
