"""A site's exchange through a folder of sealed messages (`federation/drop_folder`), however slowly they are carried."""

import hmac
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.federation.drop_folder import NotThere, Route, answers_folder, is_whole, leave, requests_folder, take
from fedcall.federation.flower.messages import Answer, Request
from fedcall.federation.site.waiting import wait_for
from fedcall.shown import shown

_ANSWER_BYTES = 1024 * 1024 * 1024
_KINDS = ("model", "receipt", "log", "verdict", "refused", "evidence")
_ONCE = ("log", "refused", "evidence")  # answers that may be others when asked for again
_TAKEN = "taken"


@dataclass(frozen=True)
class Drop:
    """The folder in which a site leaves its requests and finds its answers.

    Attributes
    ----------
    key : Ed25519PrivateKey
        The site's signing key.
    coordinator : str
        Public key of the coordinator, base64.
    """

    folder: Path
    study: str
    site: str
    key: Ed25519PrivateKey
    coordinator: str

    @property
    def requests(self) -> Route:
        """The way of this site's requests."""
        folder = requests_folder(self.folder, self.site)
        return Route(folder, self.study, self.site, "coordinator", self.key, self.coordinator)

    @property
    def answers(self) -> Route:
        """The way of their answers."""
        folder = answers_folder(self.folder, self.site)
        return Route(folder, self.study, "coordinator", self.site, self.key, self.coordinator)


def exchange_through_drop(drop: Drop, request: Request, deadline: float) -> Answer:
    """Leave a request and wait for its answer.

    The same request has the same name, so that a command that is run again, days later, finds the answer that came
    meanwhile.

    Returns
    -------
    Answer
        A final answer, or "wait" when `deadline` (of `time.monotonic`) passed.

    Raises
    ------
    FedcallError
        If nothing can be left in the folder.
    """
    if not drop.folder.is_dir():
        raise FedcallError(f"--drop {drop.folder}: no such folder; make it, or mount what carries it")
    name = _name(drop, request)
    header = {"kind": request.kind, "study": request.study, "round": request.round}
    try:
        if not is_whole(drop.requests, name, public_text(drop.key.public_key())):
            leave(drop.requests, name, header, request.claim, request.update)
        answer = wait_for(lambda: _take(drop, name), deadline)
        if answer.kind in _ONCE:
            (drop.requests.folder / name / _TAKEN).touch()
        return answer
    except OSError as error:
        raise FedcallError(f"--drop {drop.folder}: {error.strerror}: {error.filename}") from None


def _name(drop: Drop, request: Request) -> str:
    """Return the name of a request: that of an earlier, equal one unless its answer was taken and may change."""
    key = hmac.digest(drop.key.private_bytes_raw(), b"fedcall drop: names of messages", "sha256")
    for attempt in itertools.count():
        head = json.dumps([request.kind, request.study, request.round, attempt, len(request.claim)]).encode()
        name = hmac.digest(key, head + b"\0" + request.claim + request.update, "sha256").hex()[:32]
        if not (drop.requests.folder / name / _TAKEN).exists():
            return name
    raise AssertionError("there is always one more attempt")


def _take(drop: Drop, name: str) -> Answer:
    header, (document, model) = take(drop.answers, name, _ANSWER_BYTES, 2)
    kind = header.get("kind")
    if kind not in _KINDS:
        raise NotThere(f"{drop.answers.folder / name}: an answer of kind {shown(str(kind), 40)}")
    return Answer(kind, document, model, shown(str(header.get("sentence", "")), 2000))
