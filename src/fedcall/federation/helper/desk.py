"""A helper's desk: takes orders, keeps the log, signs answers. Killed at any moment, it gives the same answer again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedcall.documents import public_text, sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.helper.decision import Given, Post, decide, mask_bytes, read_papers
from fedcall.federation.helper.log import Answered, HelperLog, refuse_older_log, remember_log
from fedcall.federation.helper.partials import Fetch, Partials
from fedcall.keys import read_signing_key
from fedcall.protection.helper_keys import read_helper_identity, read_sealing_private
from fedcall.study.protection import Helper
from fedcall.study.sum_orders import MaskSum, OrderPapers
from fedcall.study.terms import Study


@dataclass(frozen=True)
class SignedMasks:
    """An answer on its way: the signed statement, and the sum of the masks (no bytes if a seed did not open).

    After the masks comes a key holder's partial decryption, where updates are encrypted.
    """

    statement: bytes
    masks: bytes


class HelperDesk:
    """One helper in one study; one process may hold it."""

    def __init__(self, state: Path, keys: Path, study: Study) -> None:
        """Take up the log in the folder `state`, or begin one.

        Raises
        ------
        FedcallError
            If these are not the keys of a helper of the study, or the log is edited, cut short or old.
        """
        self.helper = registered_helper(study, keys)
        self._keys, self._study = Path(keys), study
        self._post = Post(study, self.helper.name, read_sealing_private(keys))
        self._signing = read_signing_key(keys)
        if public_text(self._signing.public_key()) != self.helper.public_key:
            raise FedcallError(
                f"{keys}/signing.key: is not the key that helper.json names; restore it from your backup"
            )
        self.log = HelperLog(Path(state) / "answers.jsonl")
        self._catch_up()
        self._partials: Partials | None = None
        if study.protection.is_encrypted:
            self._partials = Partials(Path(state) / "partials", keys, study, self.helper.name)

    def answer(self, signed: bytes, papers: bytes, seconds: int, fetch: Fetch | None = None) -> SignedMasks:
        """Return the answer to an order; what it was answered before it is answered again, with the same bytes.

        Parameters
        ----------
        fetch : callable, optional
            Returns the update of a listed site, where updates are encrypted: the holder adds them itself.

        Raises
        ------
        FedcallError
            If the order is not to be answered, or the log is older than an answer that this helper gave.
        """
        self._catch_up()
        found = read_papers(papers)
        self._check_newest(found)
        answered = self.log.answers(self._study.digest)
        given = decide(self._post, {number: standing.entry for number, standing in answered.items()}, signed, found)
        if given.order.round not in answered:
            self.log.add(_entry(given, self._decrypt(given, fetch)), seconds)
            answered = self.log.answers(self._study.digest)
        remember_log(self.log, self._keys, self._study.digest)
        standing = answered[given.order.round]
        entry = standing.entry
        statement = MaskSum(
            study=entry.study,
            round=entry.round,
            helper=self.helper.name,
            order=entry.order,
            masks=entry.masks,
            unopened=entry.unopened,
            entries=standing.number,
            log_head=standing.head,
            partial=entry.partial,
        )
        masks = b"" if given.masks is None else mask_bytes(given.masks)
        return SignedMasks(sign(statement, self._signing), masks + self._given_before(entry))

    def _decrypt(self, given: Given, fetch: Fetch | None) -> str | None:
        """Store this holder's partial decryption of the sum; return its SHA-256, None if the order wants none."""
        if self._partials is None or given.masks is None:
            return None
        if fetch is None:
            raise FedcallError("encrypted updates are needed to answer this order, and nobody fetches them")
        return hashlib.sha256(self._partials.make(given.order, fetch)).hexdigest()

    def _given_before(self, entry: Answered) -> bytes:
        if self._partials is None or entry.partial is None:
            return b""
        found = self._partials.stored(entry.order)
        if hashlib.sha256(found).hexdigest() != entry.partial:
            raise FedcallError(
                f"round {entry.round}: the stored partial decryption is another than the log names; restore it from"
                " your backup"
            )
        return found

    def _catch_up(self) -> None:
        self.log.catch_up()
        refuse_older_log(self.log, self._keys, self._study.digest)

    def _check_newest(self, papers: OrderPapers) -> None:
        """Refuse to go on from a log that lacks an answer which this helper signed."""
        if papers.newest is None:
            return
        newest = verify(papers.newest.encode("utf-8", "surrogatepass"), MaskSum, self.helper.public_key)
        if not self.log.has_head(newest.log_head):
            raise FedcallError(
                f"{self.log.path}: lacks the answer for round {newest.round} that this helper signed, so it is old;"
                " restore the newest log: without it this helper could open a round twice"
            )


def registered_helper(study: Study, keys: Path) -> Helper:
    """Return the helper of a study whose keys these are."""
    identity = read_helper_identity(Path(keys) / "helper.json")
    for helper in study.protection.helpers:
        if helper.public_key == identity.public_key:
            return helper
    known = ", ".join(helper.name for helper in study.protection.helpers) or "none"
    raise FedcallError(
        f"{keys}: holds the keys of '{identity.name}', which is no helper of study '{study.name}' (helpers: {known})"
    )


def _entry(given: Given, partial: str | None) -> Answered:
    order = given.order
    return Answered(
        study=order.study,
        round=order.round,
        order=order.digest,
        sites=order.sites,
        values=order.values,
        masks=given.digest,
        unopened=given.unopened,
        partial=partial,
    )
