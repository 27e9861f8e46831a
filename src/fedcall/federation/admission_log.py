"""The aggregator's log: every decision it ever took, as hash-chained JSON lines.

The log is the only truth of the aggregator; what else lies in its state folder follows from it. One append is one
atomic rename of the whole file, so that a kill leaves the entry in or out, never half. Operator commands append to
the same log from another process, under a file lock.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import Field

from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.federation.claims import ReasonCode
from fedcall.federation.study import Digest, Name
from fedcall.files import write_bytes
from fedcall.privacy.terms import PrivacyTerms

GENESIS = "0" * 64


class Opened(Document):
    """A round opened, or, for round `rounds + 1`, the final model is ready."""

    kind: Literal["opened"] = "opened"
    round: Annotated[int, Field(ge=1)]
    base: Digest
    accepted: tuple[Name, ...] = Field((), description="Sites whose updates made this base from the one before.")


class Decided(Document):
    """An update or a withheld claim was answered; all of the receipt but the head of the log."""

    kind: Literal["decided"] = "decided"
    site: Name
    round: Annotated[int, Field(ge=1)]
    claim: Digest = Field(description="SHA-256 of the claim's bytes as received.")
    update: Digest | None = Field(description="SHA-256 of the update's bytes as received; null if there were none.")
    document: Digest = Field(description="Digest of the claim document; of the bytes if they hold none.")
    status: Literal["accepted", "rejected", "quarantined", "withheld"]
    reason: ReasonCode
    sentence: str
    epsilon: float | None
    accepted_rounds: int
    settles: bool = Field(description="Whether this is the site's answer to the open round.")
    content: Digest | None = Field(None, description="Content digest of the release that the claim says was made.")
    released: PrivacyTerms | None = Field(
        None,
        description="Terms of the release this update was, if its signature is the site's; it is spent, whatever"
        " the decision.",
    )
    ledger_head: Digest | None = Field(None, description="The claim's ledger_head; null if it was not the site's.")
    clip_norm: float | None = Field(
        None, description="Where the site's adaptive clipping stands after the release; null for fixed clipping."
    )


class Released(Document):
    """An operator let a quarantined site back in."""

    kind: Literal["released"] = "released"
    site: Name
    reason: str


class Fetched(Document):
    """A site was given the final model."""

    kind: Literal["fetched"] = "fetched"
    site: Name


Entry = Opened | Decided | Released | Fetched
_KINDS: dict[str, type[Entry]] = {"opened": Opened, "decided": Decided, "released": Released, "fetched": Fetched}


@dataclass(frozen=True)
class Line:
    """An entry in its place: `head` is the hash of the chain up to and with it; `seconds` since 1970."""

    entry: Entry
    seconds: int
    head: str


class AdmissionLog:
    """The log of one aggregator, read and appended to by several processes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.lines: list[Line] = []
        self._content = b""
        self._seen: tuple[int, int, int] | None = None

    @property
    def head(self) -> str:
        """Hash of the whole chain so far."""
        return self.lines[-1].head if self.lines else GENESIS

    def catch_up(self) -> list[Line]:
        """Read what other processes appended; return the new lines.

        Raises
        ------
        FedcallError
            If the file was edited or truncated; the message names the first bad line.
        """
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            if self.lines:
                raise FedcallError(f"{self.path}: the admission log is gone; restore it from your backup") from None
            return []
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return []
        content = self.path.read_bytes()
        if not content.startswith(self._content):
            raise FedcallError(f"{self.path}: lines already read were changed; restore the log from your backup")
        new = list(_read(self.path, content, len(self._content), len(self.lines), self.head))
        self.lines += new
        self._content, self._seen = content, seen
        return new

    def append(self, entry: Entry, seconds: int) -> Line:
        """Add one entry durably; the rename of the log is the commit point."""
        with self.locked():
            self.catch_up()
            body: dict[str, Any] = {"entry": entry.model_dump(mode="json"), "previous": self.head, "seconds": seconds}
            head = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
            line = rfc8785.dumps({**body, "head": head}) + b"\n"
            write_bytes(self.path, self._content + line)
            self.catch_up()
            return self.lines[-1]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that appending takes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _read(path: Path, content: bytes, start: int, count: int, previous: str) -> Iterator[Line]:
    for number, text in enumerate(content[start:].splitlines(), start=count + 1):
        try:
            line = json.loads(text)
            head = line.pop("head")
            entry = _KINDS[line["entry"]["kind"]].model_validate(line["entry"])
            intact = line["previous"] == previous and head == hashlib.sha256(rfc8785.dumps(line)).hexdigest()
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise FedcallError(f"{path}:{number}: this line does not continue the chain; restore it from your backup")
        previous = head
        yield Line(entry, int(line["seconds"]), head)
