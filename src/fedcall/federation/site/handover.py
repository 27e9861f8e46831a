"""A site's exchange through a folder, which a stock SuperNode running our app (`flower/app`) carries to the aggregator.

request.json               what the site wants: kind, study, round, and an id that follows from what is asked
{id}.claim, {id}.update    the files that go with it
answer.json, answer.file   what came back, and for which id
"""

import base64
import binascii
import fcntl
import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedcall.federation.flower.messages import Answer, Request
from fedcall.files import make_private_folder, write_bytes, write_text
from fedcall.shown import shown

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Handover:
    """The folder that the site's SuperNode was told of (`--node-config 'handover="…"'`)."""

    folder: Path


def exchange_through(handover: Handover, request: Request, deadline: float) -> Answer:
    """Leave a request in the folder and wait for its answer, as `fleet.exchange` does over a connection.

    Two commands at one folder take turns. Asked again after it was interrupted, it takes the answer that came
    meanwhile.

    Returns
    -------
    Answer
        A final answer, or the last "wait" when `deadline` (of `time.monotonic`) passed.
    """
    folder = handover.folder
    make_private_folder(folder)
    waiting = Answer("wait", sentence=f"no SuperNode has taken the request from {folder} yet")
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        identifier = _write_request(folder, request)
        try:
            while time.monotonic() < deadline:
                answer = _take_answer(folder, identifier)
                if answer is None:
                    time.sleep(_LOOK_SECONDS)
                elif answer.kind == "wait":
                    waiting = answer
                else:
                    return answer
            return waiting
        finally:
            for name in ("request.json", f"{identifier}.claim", f"{identifier}.update"):
                (folder / name).unlink(missing_ok=True)


def _write_request(folder: Path, request: Request) -> str:
    wish = {"kind": request.kind, "study": request.study, "round": request.round}
    content = json.dumps(wish).encode() + request.claim + request.update
    identifier = hashlib.sha256(content).hexdigest()[:16]
    write_text(folder / "study", request.study)
    write_bytes(folder / f"{identifier}.claim", request.claim)
    write_bytes(folder / f"{identifier}.update", request.update)
    write_bytes(folder / "request.json", json.dumps({**wish, "id": identifier}).encode())
    return identifier


def _take_answer(folder: Path, identifier: str) -> Answer | None:
    """Return the answer to the request, if it is there; an answer to another request is left for it."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError, binascii.Error):
        found = json.loads((folder / "answer.json").read_bytes())
        if found["request"] != identifier:
            return None
        document, file = base64.b64decode(found["document"]), (folder / "answer.file").read_bytes()
        (folder / "answer.json").unlink()
        return Answer(found["kind"], document, file, shown(found["sentence"], 2000))
    return None
