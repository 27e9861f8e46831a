"""A helper's log: every answer it ever gave, hash-chained like the aggregator's; the reason why it gives no second one.

The end of a line on disk is the moment from which the answer is given, whether or not it ever arrived. A log cannot
tell its own age, so two witnesses outside it do: a file in the key folder names the newest line, and the aggregator
shows the helper's own newest signed answer with every order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field

from fedcall.documents import Document, GrownDocument
from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.study.admission_log import AdmissionLog, Entry
from fedcall.study.terms import Digest, Name


class Answered(GrownDocument):
    """One sum order was answered; no other order for the same round of the study ever will be."""

    NEWER: ClassVar[tuple[str, ...]] = ("partial",)

    kind: Literal["answered"] = "answered"
    study: Digest
    round: Annotated[int, Field(ge=1)]
    order: Digest = Field(description="Digest of the sum order.")
    sites: tuple[Name, ...]
    values: int
    masks: Digest | None = Field(description="SHA-256 of the sum of the masks; null if a seed did not open.")
    unopened: tuple[Name, ...] = ()
    partial: Digest | None = Field(None, description="SHA-256 of a key holder's partial decryption.")


@dataclass(frozen=True)
class LoggedAnswer:
    """An answer in its place in the log: its number from 1 on, its time in seconds since 1970, the head with it."""

    entry: Answered
    number: int
    seconds: int
    head: str


class HelperLog(AdmissionLog):
    """The log of one helper."""

    what: ClassVar[str] = "helper's log"
    kinds: ClassVar[Mapping[str, type[Document]]] = MappingProxyType({"answered": Answered})

    def add(self, answer: Answered, seconds: int) -> None:
        """Append an answer durably; from then on it is given."""
        self.append(cast(Entry, answer), seconds)

    def answers(self, study: str) -> dict[int, LoggedAnswer]:
        """Return what was answered in a study, by round."""
        found: dict[int, LoggedAnswer] = {}
        for number, line in enumerate(self.lines, start=1):
            entry = cast(Answered, line.entry)  # `kinds` lets in no other
            if entry.study == study:
                found.setdefault(entry.round, LoggedAnswer(entry, number, line.seconds, line.head))
        return found

    def has_head(self, head: str) -> bool:
        """Say whether the log once ended with this head."""
        return any(line.head == head for line in self.lines)


def refuse_older_log(log: HelperLog, keys: Path, study: str) -> None:
    """Refuse a log that lacks the line which the key folder names: answers it once gave could be given differently.

    Raises
    ------
    FedcallError
        If the line is missing.
    """
    path = _memory(keys, study)
    try:
        head = path.read_text().strip()
    except FileNotFoundError:
        return
    if not log.has_head(head):
        raise FedcallError(
            f"{log.path}: is older than the answers this helper gave ({path} names line {head[:12]}…, which it lacks);"
            " restore the newest log: without it this helper could open a round twice"
        )


def remember_log(log: HelperLog, keys: Path, study: str) -> None:
    """Write the newest line of a log into the key folder."""
    write_text(_memory(keys, study), log.head + "\n")


def _memory(keys: Path, study: str) -> Path:
    return Path(keys) / f"answers-{study[:16]}.head"
