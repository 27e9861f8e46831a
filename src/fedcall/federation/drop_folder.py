"""Messages between a site and the coordinator as folders of files, which anything may carry.

DROP/north.requests/{message}/message         sealed to the coordinator
DROP/north.requests/{message}/manifest.json   signed by the site; written last, names size and digest of the message
DROP/north.answers/{message}/…                the same from the coordinator to the site

Whatever carries the folder may be slow, repeat, cut, shuffle or forge: a message counts only once its manifest is
there, is signed by whom it should be, and fits the message. Readers change and delete nothing. A folder's name is a
keyed digest of the request and says nothing about it.
"""

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from fedcall.documents import Document, sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.sealing import OVERHEAD_BYTES, seal, unseal
from fedcall.study.terms import Digest, Name

MESSAGE_NAME = re.compile(r"[0-9a-f]{32}")
_MANIFEST_BYTES = 4096
_HEADER_BYTES = 16 * 1024
_MESSAGE, _MANIFEST = "message", "manifest.json"


class NotThere(Exception):  # noqa: N818  (an outcome: look again later)
    """A message is not there, not there as a whole yet, or not what its sender left."""


class DropManifest(Document):
    """What a message must be to count; signed by its sender."""

    sender: Name
    recipient: Name
    message: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    size: Annotated[int, Field(ge=0)]
    sha256: Digest


@dataclass(frozen=True)
class Route:
    """From whom to whom messages of a folder go, in which study; the public key is the other side's.

    Attributes
    ----------
    folder : Path
        Where the messages lie.
    study : str
        Digest of the study; a message of one study is none in another.
    sender, recipient : str
        Names; the coordinator's is "coordinator".
    key : Ed25519PrivateKey
        This side's key.
    other_key : str
        The other side's public key, base64.
    """

    folder: Path
    study: str
    sender: str
    recipient: str
    key: Ed25519PrivateKey
    other_key: str

    def info(self, message: str) -> bytes:
        """Return what a message is sealed for."""
        return "\0".join(("fedcall drop", self.study, self.sender, self.recipient, message)).encode()


def requests_folder(drop: Path, site: str) -> Path:
    """Return where a site leaves its requests."""
    return Path(drop) / f"{site}.requests"


def answers_folder(drop: Path, site: str) -> Path:
    """Return where the coordinator leaves its answers to a site."""
    return Path(drop) / f"{site}.answers"


def leave(route: Route, message: str, header: dict[str, Any], *parts: bytes) -> None:
    """Write a message, its manifest last; each file appears as a whole.

    Raises
    ------
    FedcallError
        If the folder of the message is a link, so that something else would be written.
    OSError
        If it cannot be written.
    """
    head = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    sealed = seal(b"\n".join((head, b"".join(parts))), route.other_key, route.info(message))
    manifest = DropManifest(
        sender=route.sender,
        recipient=route.recipient,
        message=message,
        size=len(sealed),
        sha256=hashlib.sha256(sealed).hexdigest(),
    )
    route.folder.mkdir(parents=True, exist_ok=True)
    (route.folder / message).mkdir(exist_ok=True)
    with opened(route.folder / message) as folder:
        _write(folder, _MESSAGE, sealed)
        _write(folder, _MANIFEST, sign(manifest, route.key))


def take(route: Route, message: str, max_bytes: int, count: int) -> tuple[dict[str, Any], list[bytes]]:
    """Return header and parts of a message that was left for this side.

    Parameters
    ----------
    max_bytes : int
        Bytes of the parts; a larger message is none.
    count : int
        Parts there must be.

    Raises
    ------
    NotThere
        If it is not there as its sender left it; says why.
    """
    sealed = _sealed(route, message, max_bytes + _HEADER_BYTES + OVERHEAD_BYTES, route.other_key)
    try:
        content = unseal(sealed, route.key, route.info(message))
        head, _, body = content.partition(b"\n")
        header = json.loads(head)
        sizes = header.pop("sizes")
        if len(sizes) != count or sum(sizes) != len(body) or not all(type(size) is int and size >= 0 for size in sizes):
            raise FedcallError("its parts do not add up")
    except (FedcallError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotThere(f"{route.folder / message}: {error}") from None
    parts, start = [], 0
    for size in sizes:
        parts.append(body[start : start + size])
        start += size
    return header, parts


def is_whole(route: Route, message: str, own_key: str) -> bool:
    """Say whether a message that this side left is still there as it was left."""
    try:
        _sealed(route, message, None, own_key)
    except NotThere:
        return False
    return True


def traces(route: Route, message: str) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when somebody changes a message's files: cheap to look at often."""
    found = []
    for name in (_MESSAGE, _MANIFEST):
        with suppress(OSError):
            status = os.lstat(route.folder / message / name)
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _sealed(route: Route, message: str, limit: int | None, signer: str) -> bytes:
    where = route.folder / message
    try:
        with opened(where) as folder:
            signed = read_plain(folder, _MANIFEST, _MANIFEST_BYTES)
            manifest = verify(signed, DropManifest, signer)
            expected = (route.sender, route.recipient, message)
            if (manifest.sender, manifest.recipient, manifest.message) != expected:
                raise FedcallError("its manifest is another message's")
            if limit is not None and manifest.size > limit:
                raise FedcallError(f"{manifest.size} bytes, more than the {limit} that such a message has")
            sealed = read_plain(folder, _MESSAGE, manifest.size)
    except FileNotFoundError:
        raise NotThere(f"{where}: not there yet") from None
    except (FedcallError, OSError) as error:
        raise NotThere(f"{where}: {error}") from None
    if len(sealed) != manifest.size or hashlib.sha256(sealed).hexdigest() != manifest.sha256:
        raise NotThere(f"{where}: not whole yet")
    return sealed


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a folder, which may not be a link: who carries the files must not choose where we write and read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError:
        raise FedcallError(f"{path}: a folder expected, found a link or a file") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_plain(folder: int, name: str, limit: int) -> bytes:
    """Return the bytes of a plain file of an opened folder; FedcallError if it is none, or larger than `limit`."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FedcallError(f"{name} is no file")
        if status.st_size > limit:
            raise FedcallError(f"{name} has {status.st_size} bytes, more than {limit}")
        return handle.read(limit + 1)


def _write(folder: int, name: str, content: bytes) -> None:
    temporary = f".{name}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)
