"""How the two or three holders of a study make one public key, which only all of them together can decrypt under.

Each makes a secret key and a share of the public key over a polynomial that follows from the ceremony's name. First all
sign a commitment to their share; only then does anybody show the share itself. So nobody can choose the own share after
the others' and make the sum a key of its own ("rogue key"). The joint key is the sum of the shares, which everybody can
add up again: a key that a holder did not take part in is another one.

In the folder that the holders exchange: NAME.commitment.json, NAME.share, NAME.share.json. In a holder's key folder:
encryption-CEREMONY.secret, .share and .commitments (what it has shown its share for). Every step may be repeated.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from fedcall.documents import Document, is_exact, sign, verify
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.keys import read_private, read_signing_key, write_private
from fedcall.protection.bfv import check_polynomials, joint_key, make_share, parameters
from fedcall.protection.helper_keys import HelperIdentity, read_helper_identity

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
HOLDERS = (2, 3)


class KeyCommitment(Document):
    """A holder's signed word which share it will show, before it has seen the others'."""

    ceremony: _Name
    holder: _Name
    parameters: _Digest
    share: _Digest = Field(description="SHA-256 of the share.")


class KeyShare(Document):
    """A holder's signed word that it showed its share to those who had committed to theirs."""

    ceremony: _Name
    holder: _Name
    commitments: tuple[_Digest, ...] = Field(description="Digests of all commitments, by the holders' names.")


_Word = TypeVar("_Word", KeyCommitment, KeyShare)


def commit(keys: Path, ceremony: str, exchange: Path) -> str:
    """Make this holder's share, once, and lay the commitment to it into the exchange folder; return its digest."""
    identity = read_helper_identity(Path(keys) / "helper.json")
    secret_path, share_path = _own(keys, ceremony, "secret"), _own(keys, ceremony, "share")
    if not share_path.exists():
        if secret_path.exists():
            secret_path.unlink()  # a kill between the two: nobody has seen the share
        secret, share = make_share(_label(ceremony))
        write_private(secret_path, secret)
        write_bytes(share_path, share)
    elif not secret_path.exists():
        raise FedcallError(f"{secret_path}: no such key, but its share is there; restore it from your backup")
    commitment = KeyCommitment(
        ceremony=ceremony,
        holder=identity.name,
        parameters=parameters().digest,
        share=_sha256(share_path.read_bytes()),
    )
    Path(exchange).mkdir(parents=True, exist_ok=True)
    write_bytes(Path(exchange) / f"{identity.name}.commitment.json", sign(commitment, read_signing_key(keys)))
    return commitment.digest


def reveal(keys: Path, ceremony: str, exchange: Path, holders: Sequence[Path]) -> None:
    """Show this holder's share, once everybody's commitment is there; never for another set of commitments.

    Raises
    ------
    FedcallError
        If a commitment is missing, is not its holder's, or is another than when the share was shown before.
    """
    identity, everybody = read_helper_identity(Path(keys) / "helper.json"), read_holders(holders)
    commitments = [_commitment(Path(exchange), ceremony, one) for one in everybody]
    own = next((one for one in commitments if one.holder == identity.name), None)
    share = _own(keys, ceremony, "share")
    if own is None or not share.exists() or own.share != _sha256(share.read_bytes()):
        raise FedcallError(
            f"'{identity.name}' has committed to no share of ceremony '{ceremony}'; run 'fedcall encryption keygen'"
        )
    digests = tuple(one.digest for one in commitments)
    memory, told = _own(keys, ceremony, "commitments"), "\n".join(digests)
    if memory.exists() and memory.read_text() != told:
        raise FedcallError(
            f"{exchange}: holds other commitments than those this holder showed its share for; begin a ceremony of"
            " another name"
        )
    write_bytes(memory, told.encode())
    statement = KeyShare(ceremony=ceremony, holder=identity.name, commitments=digests)
    write_bytes(Path(exchange) / f"{identity.name}.share", share.read_bytes())
    write_bytes(Path(exchange) / f"{identity.name}.share.json", sign(statement, read_signing_key(keys)))


def join(ceremony: str, exchange: Path, holders: Sequence[Path]) -> bytes:
    """Return the joint key, once every document and every share was verified.

    Raises
    ------
    FedcallError
        If anything is missing, is not the holder's own, or a share is another than was committed to.
    """
    everybody = read_holders(holders)
    commitments = [_commitment(Path(exchange), ceremony, one) for one in everybody]
    digests, shares = tuple(one.digest for one in commitments), []
    for holder, commitment in zip(everybody, commitments, strict=True):
        path = Path(exchange) / f"{holder.name}.share.json"
        statement = _verified(path, KeyShare, holder)
        if (statement.ceremony, statement.holder, statement.commitments) != (ceremony, holder.name, digests):
            raise FedcallError(f"{path}: was signed for other commitments, or for another ceremony or holder")
        share = _read(Path(exchange) / f"{holder.name}.share")
        if _sha256(share) != commitment.share:
            raise FedcallError(f"{exchange}/{holder.name}.share: is another share than '{holder.name}' committed to")
        check_polynomials(share, 1, f"{exchange}/{holder.name}.share")
        shares.append(share)
    return joint_key(_label(ceremony), shares)


def check_took_part(keys: Path, ceremony: str, exchange: Path, holders: Sequence[Path], key: bytes) -> None:
    """Refuse a joint key that this holder's share is no part of."""
    identity = read_helper_identity(Path(keys) / "helper.json")
    own, shown = _own(keys, ceremony, "share"), Path(exchange) / f"{identity.name}.share"
    if identity.name not in [one.name for one in read_holders(holders)] or not own.exists():
        raise FedcallError(f"holder '{identity.name}' did not take part in ceremony '{ceremony}'")
    if own.read_bytes() != _read(shown) or join(ceremony, exchange, holders) != key:
        raise FedcallError(
            f"this public key is not the one of ceremony '{ceremony}': holder '{identity.name}' did not take part in it"
        )


def read_holders(paths: Sequence[Path]) -> list[HelperIdentity]:
    """Return the holders of a ceremony in the order of their names; the first leads."""
    found = sorted((read_helper_identity(path) for path in paths), key=lambda one: one.name)
    if len(found) not in HOLDERS or len({one.name for one in found}) != len(found):
        raise FedcallError(f"two or three different holders expected, found {', '.join(one.name for one in found)}")
    if len({one.public_key for one in found}) != len(found):
        raise FedcallError("two holders have the same key: each must be an organisation of its own")
    return found


def read_secret_share(keys: Path, ceremony: str) -> bytes:
    """Return a holder's secret key of a ceremony."""
    return read_private(_own(keys, ceremony, "secret"))


def _commitment(exchange: Path, ceremony: str, holder: HelperIdentity) -> KeyCommitment:
    path = exchange / f"{holder.name}.commitment.json"
    found = _verified(path, KeyCommitment, holder)
    if (found.ceremony, found.holder) != (ceremony, holder.name):
        raise FedcallError(f"{path}: is of holder '{found.holder}' and ceremony '{found.ceremony}'")
    if found.parameters != parameters().digest:
        raise FedcallError(f"{path}: was made with other parameters; all holders need OpenFHE of the same version")
    return found


def _verified(path: Path, kind: type[_Word], holder: HelperIdentity) -> _Word:
    signed = _read(path)
    try:
        found = verify(signed, kind, holder.public_key)
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None
    if not is_exact(signed, found):
        raise FedcallError(f"{path}: is not in canonical form")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: not there yet; the holder makes it with 'fedcall encryption'") from None


def _own(keys: Path, ceremony: str, kind: str) -> Path:
    return Path(keys) / f"encryption-{ceremony}.{kind}"


def _label(ceremony: str) -> str:
    return f"ceremony {ceremony}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
