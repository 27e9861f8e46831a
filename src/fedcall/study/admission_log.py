"""The aggregator's log: every decision it ever took, as hash-chained JSON lines.

The log is the only truth of the aggregator; what else lies in its state folder follows from it. A line counts once its
newline is on disk: what a kill or a full disk leaves of a line is cut off by the next append. Operator commands append
to the same log from another process, under a file lock.

The chain runs over the digests of the entries, so that a site can be shown the log with the entries of other sites
hidden and still check that nothing was changed, left out or put in.
"""

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import rfc8785
from pydantic import Field

from fedcall.documents import Document, GrownDocument
from fedcall.errors import FedcallError
from fedcall.files import sync
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import ReasonCode
from fedcall.study.judgement import JudgedSite
from fedcall.study.terms import Digest, Name

GENESIS = "0" * 64


class PutOut(Document):
    """A site whose update of the round before was found unlike the others, and was not averaged."""

    site: Name
    sentence: str
    quarantines: bool = Field(description="Whether this was one refusal too many in a row.")


class Opened(GrownDocument):
    """A round opened, or, for round `rounds + 1`, the final model is ready; the round before closed with it."""

    NEWER: ClassVar[tuple[str, ...]] = ("masks", "void")

    kind: Literal["opened"] = "opened"
    round: Annotated[int, Field(ge=1)]
    base: Digest
    accepted: tuple[Name, ...] = Field((), description="Sites whose updates made this base from the one before.")
    outliers: tuple[PutOut, ...] = Field((), description="Sites whose updates were put out when the round closed.")
    moments: Digest | None = Field(None, description="Content digest of fedadam's moments going into the round.")
    masks: tuple[str, ...] = Field(
        (),
        description="The helpers' signed answers (MaskSum) to the sum order of the round before, in the study's order.",
    )
    void: str | None = Field(None, description="Why nothing was averaged although a sum was ordered or wanted.")


class Ordered(Document):
    """A round takes no more updates: the coordinator signed the one list whose sum is to be opened."""

    kind: Literal["ordered"] = "ordered"
    round: Annotated[int, Field(ge=1)]
    order: str = Field(description="The signed sum order (SumOrder).")


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


class Judged(Document):
    """A site's judgement of the final model was answered; all of the receipt but the head of the log."""

    kind: Literal["judged"] = "judged"
    site: Name
    judgement: Digest = Field(description="SHA-256 of the judgement's bytes as received.")
    document: Digest = Field(description="Digest of the judgement; of the bytes if they hold none.")
    status: Literal["accepted", "rejected", "quarantined", "withheld"]
    reason: ReasonCode
    sentence: str
    epsilon: float | None = Field(description="Spent by each held-out patient; null unless accepted.")
    total: int | None = Field(description="The noisy sum that was released; null unless accepted.")
    settles: bool = Field(description="Whether this is the site's answer.")
    ledger_head: Digest | None


class Concluded(Document):
    """The judgements were closed: these count, and no other will."""

    kind: Literal["concluded"] = "concluded"
    sites: tuple[JudgedSite, ...]


class SetAside(Document):
    """An operator quarantined a site: it is gone for good, or is not to be trusted."""

    kind: Literal["set-aside"] = "set-aside"
    site: Name
    reason: str
    operator: str


class Released(Document):
    """An operator let a quarantined site back in."""

    kind: Literal["released"] = "released"
    site: Name
    reason: str
    operator: str = Field(description="Who did it, as the machine knows them.")


class Closed(Document):
    """An operator ended the study after the rounds it has: the model they made is the final one."""

    kind: Literal["closed"] = "closed"
    round: Annotated[int, Field(ge=1)] = Field(description="The last round that counts.")
    reason: str
    operator: str = Field(description="Who did it, as the machine knows them.")


class Fetched(Document):
    """A site was given the final model."""

    kind: Literal["fetched"] = "fetched"
    site: Name


class Hidden(Document):
    """Stands in an extract for an entry that is another site's business."""

    kind: Literal["hidden"] = "hidden"
    sha256: Digest = Field(description="Digest of the entry.")


Entry = Opened | Ordered | Decided | Judged | Concluded | SetAside | Released | Closed | Fetched
_OPERATORS = (SetAside, Released, Closed)
"""What the coordinator's operator does by a command, in a process of its own."""
_KINDS: dict[str, type[Entry]] = {
    "opened": Opened,
    "ordered": Ordered,
    "decided": Decided,
    "judged": Judged,
    "concluded": Concluded,
    "set-aside": SetAside,
    "released": Released,
    "closed": Closed,
    "fetched": Fetched,
}


@dataclass(frozen=True)
class LogLine:
    """An entry in its place: `head` is the hash of the chain up to and with it; `seconds` since 1970."""

    entry: Entry | Hidden
    seconds: int
    previous: str
    head: str


class AdmissionLog:
    """The log of one aggregator, read and appended to by several processes.

    `what` is its name in messages, `kinds` are its entries; a helper keeps a log of its own of the same form. With
    `mark`, every line on disk carries the mark of its head, and a line with another or none is refused: an enclave's
    log, which nobody else goes on with. Only what operators do (`_OPERATORS`) stands there without: their commands run
    outside of the enclave, and the next marked line, whose head follows from theirs, keeps them in their place.
    """

    what: ClassVar[str] = "admission log"
    kinds: ClassVar[Mapping[str, type[Document]]] = MappingProxyType(_KINDS)

    def __init__(self, path: Path, mark: Callable[[str], str] | None = None) -> None:
        self.path, self._mark = Path(path), mark
        self.lines: list[LogLine] = []
        self._end = 0  # bytes read so far: whole lines
        self._seen: tuple[int, int, int] | None = None

    @property
    def head(self) -> str:
        """Hash of the whole chain so far."""
        return self.lines[-1].head if self.lines else GENESIS

    def catch_up(self) -> list[LogLine]:
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
                raise FedcallError(f"{self.path}: the {self.what} is gone; restore it from your backup") from None
            return []
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen == self._seen:
            return []
        if found.st_size < self._end:
            raise FedcallError(f"{self.path}: lines already read are gone; restore the log from your backup")
        with open(self.path, "rb") as file:
            file.seek(self._end)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        new = list(read_lines(whole, str(self.path), len(self.lines), self.head, self.kinds))
        if self._mark is not None:
            self._require_marks(whole, new)
        self.lines += new
        self._end += len(whole)
        self._seen = seen
        return new

    def append(self, entry: Entry, seconds: int) -> LogLine:
        """Add one entry durably; the end of its line on disk is the commit point."""
        with self.locked():
            self.catch_up()
            line = _line(entry, seconds, self.head)
            is_first = not self.path.exists()
            with open(self.path, "ab") as file:
                file.truncate(self._end)  # a line that a kill or a full disk cut short never counted
                file.write(_dump(line, self._mark))
                file.flush()
                os.fsync(file.fileno())
            if is_first:
                sync(self.path.parent)
            self.catch_up()
            return self.lines[-1]

    def _require_marks(self, content: bytes, lines: list[LogLine]) -> None:
        assert self._mark is not None
        for number, (text, line) in enumerate(zip(content.splitlines(), lines, strict=True), start=len(self.lines) + 1):
            if isinstance(line.entry, _OPERATORS):
                continue
            if not hmac.compare_digest(str(json.loads(text).get("mark")), self._mark(line.head)):
                raise FedcallError(
                    f"{self.path}:{number}: this line is not this enclave's: another image, machine or study wrote it,"
                    " or somebody else; restore the log from your backup, and serve it where it was served before"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that appending takes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def read_lines(
    content: bytes,
    name: str,
    count: int = 0,
    previous: str = GENESIS,
    kinds: Mapping[str, type[Document]] = _KINDS,
) -> Iterator[LogLine]:
    """Yield the lines of a log, or of an extract, that continue a chain of `count` lines.

    Raises
    ------
    FedcallError
        If a line does not continue the chain; the message gives `name` and the number of the line.
    """
    for number, text in enumerate(content.splitlines(), start=count + 1):
        try:
            fields = json.loads(text)
            kind = fields["entry"]["kind"]
            entry: Any = (Hidden if kind == "hidden" else kinds[kind]).model_validate(fields["entry"])
            line = LogLine(entry, fields["seconds"], fields["previous"], fields["head"])
            intact = line.previous == previous and line.head == _head(entry, line.seconds, previous)
        except (ValueError, KeyError, TypeError, RecursionError):
            intact = False
        if not intact:
            raise FedcallError(f"{name}:{number}: this line does not continue the chain; restore it from your backup")
        previous = line.head
        yield line


def extract(lines: Iterable[LogLine], site: str) -> bytes:
    """Return the log as `site` may see it: rounds and its own entries in full, other sites' entries as digests."""
    return b"".join(_dump(line if _concerns(line.entry, site) else _hidden(line)) for line in lines)


def _concerns(entry: Entry | Hidden, site: str) -> bool:
    return isinstance(entry, Opened | Ordered | Concluded | Closed) or (
        not isinstance(entry, Hidden) and entry.site == site
    )


def _hidden(line: LogLine) -> LogLine:
    entry = line.entry if isinstance(line.entry, Hidden) else Hidden(sha256=line.entry.digest)
    return LogLine(entry, line.seconds, line.previous, line.head)


def _line(entry: Entry, seconds: int, previous: str) -> LogLine:
    return LogLine(entry, seconds, previous, _head(entry, seconds, previous))


def _head(entry: Entry | Hidden, seconds: int, previous: str) -> str:
    digest = entry.sha256 if isinstance(entry, Hidden) else entry.digest
    return hashlib.sha256(rfc8785.dumps({"entry": digest, "previous": previous, "seconds": seconds})).hexdigest()


def _dump(line: LogLine, mark: Callable[[str], str] | None = None) -> bytes:
    fields: dict[str, Any] = {
        "entry": line.entry.model_dump(mode="json"),
        "previous": line.previous,
        "seconds": line.seconds,
        "head": line.head,
        **({} if mark is None else {"mark": mark(line.head)}),
    }
    return bytes(rfc8785.dumps(fields)) + b"\n"
