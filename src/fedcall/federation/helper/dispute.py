"""Whose fault a void round was: a key holder holds the partial decryption that it signed against its own secret key.

A holder's signed answer stands in the admission log, with the digest of its partial decryption; so do the order, and
with it the digests of all ciphertexts. Whether the one follows from the other only the secret key tells, so the answer
is computed in the holder's key folder, under the eyes of whoever wants to know. It is the same whenever it is computed.
"""

import hashlib
from pathlib import Path

from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.helper.desk import registered_helper
from fedcall.federation.helper.partials import listed_ciphertexts
from fedcall.protection import bfv
from fedcall.protection.ceremony import read_holders_part
from fedcall.study.admission_log import Opened, Ordered
from fedcall.study.log_reading import read_log
from fedcall.study.sum_orders import MaskSum, SumOrder, check_opening
from fedcall.study.terms import Study


def verify_given(study: Study, number: int, keys: Path, log: Path, partial: Path, updates: Path) -> str:
    """Return, in a sentence, that the partial decryption which this holder signed for a round is the one of its sum.

    Parameters
    ----------
    log : Path
        The admission log, from the aggregator or any site.
    partial : Path
        The partial decryption, from the holder's state or the aggregator's; its digest must be the one signed.
    updates : Path
        Folder of the listed updates as they were sent, SITE.safetensors each.

    Raises
    ------
    FedcallError
        If it is not: this holder voided the round. Or if a file is not the one that was signed.
    """
    terms = study.protection
    if terms.encryption is None:
        raise FedcallError(f"study '{study.name}' encrypts nothing, so it has no partial decryptions")
    name = registered_helper(study, keys).name
    order, answer = _signed(study, number, log, name)
    if answer.partial is None:
        raise FedcallError(f"round {number}: holder '{name}' gave no partial decryption: a seed did not open")
    made = _read(partial)
    if hashlib.sha256(made).hexdigest() != answer.partial:
        raise FedcallError(f"{partial}: is another partial decryption than the one that holder '{name}' signed")

    def fetch(site: str) -> bytes:
        return _read(updates / f"{site}.safetensors")

    total = bfv.add(listed_ciphertexts(order, fetch), 2 * bfv.parameters().blocks(order.values))
    part = read_holders_part(terms.encryption, terms.signing_keys, keys, name)
    found = bfv.verify_partial(made, total, part)
    if found == "another key":
        raise FedcallError(
            f"{keys}: the secret key is not the one of the share in the study's joint key; restore it from your backup"
        )
    if found == "wrong":
        raise FedcallError(
            f"round {number}: the partial decryption that holder '{name}' signed is not one of the listed sum: it would"
            " void the round"
        )
    return (
        f"round {number}: the partial decryption that holder '{name}' signed is one of the sum of"
        f" {len(order.updates)} listed updates, made with the key of its share"
    )


def _signed(study: Study, number: int, log: Path, name: str) -> tuple[SumOrder, MaskSum]:
    """Return a round's order and a holder's answer to it, once everybody's signatures are verified."""
    entries = [line.entry for line in read_log(log)]
    orders = [entry.order for entry in entries if isinstance(entry, Ordered) and entry.round == number]
    answers = [entry.masks for entry in entries if isinstance(entry, Opened) and entry.round == number + 1]
    if not orders or not answers or not answers[0]:
        raise FedcallError(f"{log}: says of no sum that was answered in round {number}")
    order = check_opening(study, number, orders[0], answers[0])
    helper = next(one for one in study.protection.helpers if one.name == name)
    place = study.protection.helpers.index(helper)
    return order, verify(answers[0][place].encode(), MaskSum, helper.public_key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FedcallError(f"{path}: no such file; the coordinator has it, too, in the folder of the round") from None
