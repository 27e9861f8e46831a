"""Read a site's claims and receipts, each checked against the key the study names for its author."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.documents import read_signed
from fedcall.errors import FedcallError
from fedcall.reporting.privacy.documents import ClosedEarly
from fedcall.study.admission_log import Closed, LogLine, Opened, Ordered
from fedcall.study.claims import Claim, Receipt
from fedcall.study.evidence_exchange import SealedTo, record_folder, verify_record
from fedcall.study.log_reading import check_receipts
from fedcall.study.opened_sums import OpenedSum, own_update, verify_sum
from fedcall.study.terms import Study


@dataclass(frozen=True)
class RoundRecord:
    """What was said about one round.

    Attributes
    ----------
    receipt : Receipt or None
        None while the aggregator's answer is out.
    put_out : str or None
        Why the update was not averaged although its receipt says "accepted": an outlier, found when the round closed.
    void : str or None
        Why nothing was averaged in this round: its sum was not opened, or could not be that of honest updates.
    summed : tuple of str or None
        Where updates are masked: the sites in whose sum this update was opened, after the coordinator's signature and
        that of each helper were verified. None if no sum was opened, or neither log nor receipt tells of one.
    sealed : SealedTo or None
        In a sealed study: what this update was sealed to, verified again. None if the site kept no record of it.
    """

    round: int
    claim: Claim
    receipt: Receipt | None
    put_out: str | None = None
    void: str | None = None
    summed: tuple[str, ...] | None = None
    sealed: SealedTo | None = None


def read_rounds(
    study: Study, site: str, folder: Path, lines: Sequence[LogLine] | None = None
) -> tuple[RoundRecord, ...]:
    """Return the rounds that have a claim, in order.

    Parameters
    ----------
    lines : sequence of LogLine, optional
        The aggregator's admission log as the site fetched it (`read_log`); it knows what happened after a receipt.

    Raises
    ------
    FedcallError
        If the folder is missing, a signature is not by the site (claims) or the coordinator (receipts), a document
        speaks of another study, site, round or claim, or a receipt does not stand in the log; the message names the
        file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FedcallError(f"{folder}: no such folder of rounds; give results/STUDY/SITE/rounds")
    public_key = study.site(site).public_key
    assert study.coordinator is not None  # read_study returns complete studies only
    if lines is not None:  # an empty log lacks what the receipts name, too
        check_receipts(lines, study, site, folder)
    lines = lines or ()
    put_out = _put_out(lines, site)
    openings = {line.entry.round - 1: line.entry for line in lines if isinstance(line.entry, Opened)}
    orders = {line.entry.round: line.entry for line in lines if isinstance(line.entry, Ordered)}
    records = []
    for number in range(1, study.rounds + 1):
        claim_path, receipt_path = folder / str(number) / "claim.json", folder / str(number) / "receipt.json"
        if not claim_path.exists():
            if receipt_path.exists():
                raise FedcallError(f"{receipt_path}: a receipt without the claim it answers ({claim_path} is missing)")
            continue
        claim = read_signed(claim_path, Claim, public_key)
        _check(claim_path, claim, study, site, number)
        receipt = None
        if receipt_path.exists():
            receipt = read_signed(receipt_path, Receipt, study.coordinator)
            _check(receipt_path, receipt, study, site, number)
            if receipt.claim != claim.digest:
                raise FedcallError(f"{receipt_path}: answers claim {receipt.claim[:12]}…, not {claim_path}")
        opening = openings.get(number)
        summed = _summed(study, claim, _shown(orders.get(number), opening, receipt), opening)
        void = opening.void if opening else None
        sealed = _sealed(study, claim, record_folder(receipt_path))
        records.append(RoundRecord(number, claim, receipt, put_out.get(number), void, summed, sealed))
    return tuple(records)


def closed_early(lines: Sequence[LogLine]) -> ClosedEarly | None:
    """Return that the coordinator ended the study before its last round, by the log that the site fetched."""
    found = next((line.entry for line in lines if isinstance(line.entry, Closed)), None)
    return None if found is None else ClosedEarly(round=found.round, reason=found.reason, operator=found.operator)


def _shown(order: Ordered | None, opening: Opened | None, receipt: Receipt | None) -> OpenedSum | None:
    """Return what the coordinator shows of the sum of a round: in its log, else in the site's receipt."""
    if order is not None and opening is not None and opening.masks:
        return OpenedSum(order=order.order, answers=opening.masks)
    return receipt.opened if receipt and opening is None else None


def _summed(study: Study, claim: Claim, opened: OpenedSum | None, opening: Opened | None) -> tuple[str, ...] | None:
    """Return who was in the sum of a closed round, verified; None if none was opened, or without the site.

    Raises
    ------
    FedcallError
        If the model changed without a sum that all helpers signed, or the sum holds another update of this site than
        the one it claimed.
    """
    if not study.sends_sums:
        return None
    order = verify_sum(study, claim.round, opened, opening.accepted if opening else ())
    own = own_update(order, claim.site) if order else None
    if order is None or own is None:
        return None
    if (own.claim, own.update) != (claim.digest, claim.update):
        raise FedcallError(
            f"round {claim.round}: the sum that was opened lists another update of site '{claim.site}' than its claim"
        )
    return order.sites


def _sealed(study: Study, claim: Claim, folder: Path) -> SealedTo | None:
    """Return what an update was sealed to, verified again as of then; None in other modes, and without a record.

    Raises
    ------
    FedcallError
        If the record is of another update, or the evidence does not show what the study's policy demands.
    """
    policy = study.protection.evidence
    if policy is None or not folder.exists():
        return None
    record, _ = verify_record(folder, policy, study.digest)
    if (record.site, record.round) != (claim.site, claim.round):
        raise FedcallError(f"{folder}: is the record of site '{record.site}', round {record.round}")
    return record


def _put_out(lines: Sequence[LogLine], site: str) -> dict[int, str]:
    """Return why updates of the site were left out when their rounds closed, by round."""
    openings = [line.entry for line in lines if isinstance(line.entry, Opened)]
    return {
        opening.round - 1: outlier.sentence
        for opening in openings
        for outlier in opening.outliers
        if outlier.site == site
    }


def _check(path: Path, document: Claim | Receipt, study: Study, site: str, number: int) -> None:
    found = (document.study, document.site, document.round)
    expected = (study.digest, site, number)
    for name, value, wanted in zip(("study", "site", "round"), found, expected, strict=True):
        if value != wanted:
            raise FedcallError(f"{path}: speaks of {name} {value}, but {wanted} is expected here")
