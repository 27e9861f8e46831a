"""How the two or three holders of a study make one public key, which only all of them together can decrypt under.

Each makes a secret key and a share of the public key over a polynomial that follows from the ceremony's name. First all
sign a commitment to their share; only then does anybody show the share itself. So nobody can choose the own share after
the others' and make the sum a key of its own ("rogue key"). The joint key is the sum of the shares, which everybody can
add up again: a key that a holder did not take part in is another one.

In the folder that the holders exchange: NAME.commitment.json, NAME.share, NAME.share.json. In a holder's key folder:
encryption-CEREMONY.secret, .share and .commitments (what it has shown its share for). Every step may be repeated.

A study names its key by all that the holders signed (`JointKey`); the shares themselves lie beside the study, in
`encryption.shares`. Everybody who reads the key holds the shares against the commitments, and adds them up.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from fedcall.documents import Document, is_exact, sign, verify
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.keys import read_private, read_signing_key, write_private
from fedcall.protection import bfv
from fedcall.protection.bfv import HoldersPart, check_polynomials, joint_key, make_share, parameters
from fedcall.protection.encrypting import EncryptionKey
from fedcall.protection.helper_keys import HelperIdentity, read_helper_identity

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Signed = Annotated[str, Field(max_length=1 << 14)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
HOLDERS = (2, 3)
SHARES_FILE = "encryption.shares"
"""All holders' shares one after the other, in the order of their names; lies beside the study."""


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


class JointKey(Document):
    """What a study's holders signed of their joint key, in the order of their names; the first leads."""

    ceremony: _Name
    parameters: _Digest = Field(description="SHA-256 of the scheme's parameters.")
    commitments: Annotated[tuple[_Signed, ...], Field(min_length=2, max_length=3)]
    shares: Annotated[tuple[_Signed, ...], Field(min_length=2, max_length=3)]


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


def gather(ceremony: str, exchange: Path, holders: Sequence[Path]) -> tuple[JointKey, bytes]:
    """Return the document of a ceremony that is complete, and all shares; FedcallError as `join`."""
    join(ceremony, exchange, holders)
    names = [one.name for one in read_holders(holders)]
    found = JointKey(
        ceremony=ceremony,
        parameters=parameters().digest,
        commitments=tuple(_read(Path(exchange) / f"{name}.commitment.json").decode() for name in names),
        shares=tuple(_read(Path(exchange) / f"{name}.share.json").decode() for name in names),
    )
    return found, b"".join(_read(Path(exchange) / f"{name}.share") for name in names)


def check_joint_key(joint: JointKey, holders: Mapping[str, str]) -> tuple[str, ...]:
    """Return the digest of each holder's share, once all signatures are verified; needs no OpenFHE.

    Parameters
    ----------
    holders : mapping of str to str
        Each holder's public signing key by its name.

    Raises
    ------
    FedcallError
        If a holder did not take part, or committed to something else.
    """
    names = _check_organisations(sorted(holders.items()))
    if len(joint.commitments) != len(names) or len(joint.shares) != len(names):
        raise FedcallError(f"the joint key is one of {len(joint.commitments)} holders, the study has {len(names)}")
    commitments = [
        _verified_text(f"commitment of holder '{name}'", signed, KeyCommitment, holders[name])
        for name, signed in zip(names, joint.commitments, strict=True)
    ]
    digests = tuple(one.digest for one in commitments)
    for name, commitment, signed in zip(names, commitments, joint.shares, strict=True):
        if (commitment.ceremony, commitment.holder, commitment.parameters) != (joint.ceremony, name, joint.parameters):
            raise FedcallError(f"holder '{name}' committed to a share of another ceremony, or with other parameters")
        statement = _verified_text(f"statement of holder '{name}'", signed, KeyShare, holders[name])
        if (statement.ceremony, statement.holder, statement.commitments) != (joint.ceremony, name, digests):
            raise FedcallError(
                f"holder '{name}' showed its share for other commitments: it did not take part in this key"
            )
    return tuple(one.share for one in commitments)


def require_openfhe(joint: JointKey) -> None:
    """Refuse to begin where OpenFHE is missing, or has other parameters than those of the study's key."""
    if parameters().digest != joint.parameters:
        raise FedcallError(
            "the study's joint key was made with other parameters than this OpenFHE gives; install the version that"
            " 'make encryption' installs"
        )


def read_joint_key(joint: JointKey, holders: Mapping[str, str], study: Path) -> EncryptionKey:
    """Return the key that the shares beside a study add up to.

    Raises
    ------
    FedcallError
        If the shares are missing, or are not those that the holders committed to.
    """
    require_openfhe(joint)
    content = read_shares(joint, holders, study)
    size = len(content) // len(holders)
    shares = [content[size * place : size * (place + 1)] for place in range(len(holders))]
    for name, share in zip(sorted(holders), shares, strict=True):
        check_polynomials(share, 1, f"share of holder '{name}'")
    return EncryptionKey(joint.digest, joint_key(_label(joint.ceremony), shares))


def read_shares(joint: JointKey, holders: Mapping[str, str], study: Path) -> bytes:
    """Return the shares beside a study, once they are those that the holders committed to; needs no OpenFHE."""
    digests, path = check_joint_key(joint, holders), Path(study).parent / SHARES_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file; the coordinator gives it with the study") from None
    size, rest = divmod(len(content), len(digests))
    for place, (name, digest) in enumerate(zip(sorted(holders), digests, strict=True)):
        if rest or _sha256(content[size * place : size * (place + 1)]) != digest:
            raise FedcallError(
                f"{path}: does not hold the share that '{name}' committed to; ask the coordinator for it"
            )
    return content


def write_shares(study: Path, shares: bytes) -> None:
    """Lay all holders' shares beside a study."""
    write_bytes(Path(study).parent / SHARES_FILE, shares)


def read_holders_secret(joint: JointKey, holders: Mapping[str, str], keys: Path, name: str) -> bytes:
    """Return a holder's secret key of a study; FedcallError if its own share is no part of the joint key."""
    require_openfhe(joint)
    digest = check_joint_key(joint, holders)[sorted(holders).index(name)]
    share = _own(keys, joint.ceremony, "share")
    if not share.exists() or _sha256(share.read_bytes()) != digest:
        raise FedcallError(
            f"{share}: is not the share in the study's joint key: holder '{name}' did not take part in ceremony"
            f" '{joint.ceremony}' with this key folder"
        )
    return read_secret_share(keys, joint.ceremony)


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
    _check_organisations([(one.name, one.public_key) for one in found])
    return found


def read_holders_part(joint: JointKey, holders: Mapping[str, str], keys: Path, name: str) -> HoldersPart:
    """Return a holder's part of a study's joint key; FedcallError as `read_holders_secret`."""
    secret = read_holders_secret(joint, holders, keys, name)
    share = _own(keys, joint.ceremony, "share").read_bytes()
    return HoldersPart(secret, share, _label(joint.ceremony), name == min(holders))


def partial_once(keys: Path, ceremony: str, total: bytes, leads: bool) -> bytes:
    """Return this holder's partial decryption of a sum outside of any study; the same sum gets the same bytes, ever.

    Each has fresh noise that hides the key, and two of one sum would halve it.
    """
    secret = read_secret_share(keys, ceremony)
    path = _own(keys, ceremony, "partials") / f"{_sha256(total + bytes([leads]))}.partial"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, bfv.partial(total, secret, leads))
    return path.read_bytes()


def read_secret_share(keys: Path, ceremony: str) -> bytes:
    """Return a holder's secret key of a ceremony."""
    return read_private(_own(keys, ceremony, "secret"))


def _check_organisations(holders: Sequence[tuple[str, str]]) -> list[str]:
    """Return the holders' names, if these are two or three organisations: names and public signing keys."""
    names = [name for name, _ in holders]
    if len(names) not in HOLDERS or len(set(names)) != len(names):
        raise FedcallError(f"two or three different key holders expected, found {', '.join(names) or 'none'}")
    if len({key for _, key in holders}) != len(names):
        raise FedcallError("two holders have the same key: each must be an organisation of its own")
    return names


def _commitment(exchange: Path, ceremony: str, holder: HelperIdentity) -> KeyCommitment:
    path = exchange / f"{holder.name}.commitment.json"
    found = _verified(path, KeyCommitment, holder)
    if (found.ceremony, found.holder) != (ceremony, holder.name):
        raise FedcallError(f"{path}: is of holder '{found.holder}' and ceremony '{found.ceremony}'")
    if found.parameters != parameters().digest:
        raise FedcallError(f"{path}: was made with other parameters; all holders need OpenFHE of the same version")
    return found


def _verified(path: Path, kind: type[_Word], holder: HelperIdentity) -> _Word:
    return _verified_text(str(path), _read(path).decode(errors="replace"), kind, holder.public_key)


def _verified_text(where: str, text: str, kind: type[_Word], public_key: str) -> _Word:
    signed = text.encode()
    try:
        found = verify(signed, kind, public_key)
    except FedcallError as error:
        raise FedcallError(f"{where}: {error}") from None
    if not is_exact(signed, found):
        raise FedcallError(f"{where}: is not in canonical form")
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
