"""The aggregator's side of folders of sealed messages: reads the sites' requests and leaves the answers.

A folder may show the same request many times, late, or never again, and answers may get lost on the way: an answer that
is no longer there as it was left is made again, and comes out the same, because every request may be repeated.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.aggregator.told_once import ToldOnce
from fedcall.federation.drop_folder import (
    MESSAGE_NAME,
    NotThere,
    Route,
    answers_folder,
    is_whole,
    leave,
    requests_folder,
    take,
    traces,
)
from fedcall.federation.flower.messages import Answer, Request, read_request
from fedcall.shown import shown

log = logging.getLogger("fedcall.aggregator")

_LOOK_SECONDS = 1.0
_MOST_MESSAGES = 10_000  # of a site in a folder; a study has some per round


@dataclass
class _Seen:
    """What is known of a request: its files when last looked at, what it wants, its answer's files when last left."""

    files: tuple[tuple[int, int, int], ...] = ()
    wanted: Request | None = None
    answer_files: tuple[tuple[int, int, int], ...] = ()


@dataclass
class _Box:
    """The messages of one site in one folder."""

    site: str
    requests: Route
    answers: Route
    told: ToldOnce
    seen: dict[str, _Seen] = field(default_factory=dict)


class Drops:
    """All folders of a study in which sites leave requests.

    Parameters
    ----------
    folders : Sequence[Path]
        Folders, of one site or several each.
    key : Ed25519PrivateKey
        The coordinator's signing key.
    request_bytes : int
        The most bytes that claim and update of a request have.
    """

    def __init__(self, state: StudyState, folders: Sequence[Path], key: Ed25519PrivateKey, request_bytes: int) -> None:
        self._state, self._request_bytes = state, request_bytes
        self._own_key = public_text(key.public_key())
        self._next_look = 0.0
        digest = state.study.digest
        self._boxes = [
            _Box(
                site.name,
                Route(requests_folder(folder, site.name), digest, site.name, "coordinator", key, site.public_key),
                Route(answers_folder(folder, site.name), digest, "coordinator", site.name, key, site.public_key),
                ToldOnce(site.name),
            )
            for folder in folders
            for site in state.study.sites
        ]

    def look(self) -> list[str]:
        """Answer what can be answered; return the sites that were answered. Looks at most once a second."""
        if time.monotonic() < self._next_look:
            return []
        answered = [box.site for box in self._boxes for name in self._names(box) if self._serve(box, name)]
        self._next_look = time.monotonic() + _LOOK_SECONDS
        return answered

    def _names(self, box: _Box) -> Iterator[str]:
        try:
            with os.scandir(box.requests.folder) as entries:
                names = [entry.name for entry in islice(entries, _MOST_MESSAGES + 1)]
        except FileNotFoundError:
            return
        except OSError as error:
            box.told.tell(f"{box.requests.folder}: {error.strerror}")
            return
        if len(names) > _MOST_MESSAGES:
            box.told.tell(f"{box.requests.folder}: more than {_MOST_MESSAGES} messages; the others are not looked at")
        yield from (name for name in sorted(names) if MESSAGE_NAME.fullmatch(name))

    def _serve(self, box: _Box, name: str) -> bool:
        """Answer one request, unless its answer is there, or it is not whole, or must wait."""
        seen = box.seen.setdefault(name, _Seen())
        answer_files = traces(box.answers, name)
        if answer_files and (answer_files == seen.answer_files or is_whole(box.answers, name, self._own_key)):
            seen.answer_files, seen.wanted = answer_files, None
            return False
        request = seen.wanted or self._read(box, name, seen)
        if request is None:
            return False
        try:
            answer = self._answer(box.site, request)
            if answer.kind == "wait":
                seen.wanted = request  # without its files, which may be large, only where it must wait: a fetch
                return False
            leave(box.answers, name, {"kind": answer.kind, "sentence": answer.sentence}, answer.document, answer.model)
        except (OSError, FedcallError) as error:  # a full disk, or a link in our way: the next look tries again
            reason = error.strerror if isinstance(error, OSError) else error
            box.told.tell(f"{box.answers.folder / name}: not written: {reason}")
            seen.files = ()
            return False
        seen.answer_files, seen.wanted, seen.files = traces(box.answers, name), None, ()
        if answer.kind == "model" and request.round >= self._state.final_round:
            self._state.mark_fetched(box.site)
        return True

    def _read(self, box: _Box, name: str, seen: _Seen) -> Request | None:
        files = traces(box.requests, name)
        if files == seen.files:
            return None
        seen.files = files
        try:
            header, (claim, update) = take(box.requests, name, self._request_bytes, 2)
            return read_request(header, claim, update)
        except NotThere as missing:
            if len(files) == 2:
                box.told.tell(str(missing))
        except FedcallError as error:
            box.told.tell(f"{box.requests.folder / name}: {error}")
        return None

    def _answer(self, site: str, request: Request) -> Answer:
        try:
            return respond(self._state, site, request)
        except FedcallError as error:
            sentence = shown(str(error), 500)
            log.warning("site %s: %s", site, sentence)
            return Answer("refused", sentence=sentence)
