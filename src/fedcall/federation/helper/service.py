"""A helper's service: goes to the aggregator, waits there for a sum order, and answers it. It listens nowhere.

May be killed at any moment: what it answered stands in its log, and the same order gets the same answer.
"""

import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.federation.flower.fleet import LONGEST_LOOK_SECONDS, NodeRefused, Unreachable, exchange
from fedcall.federation.flower.messages import Answer, Request
from fedcall.federation.helper.desk import HelperDesk
from fedcall.federation.site.visits import Place
from fedcall.files import write_text
from fedcall.keys import read_node_key
from fedcall.protection.bfv import ProgramFailed
from fedcall.study.terms import Study

log = logging.getLogger("fedcall.helper")

STUDY_IS_DONE = "the study is done"
"""Why a helper ends that nobody needs any more."""

_VISIT_SECONDS = 300.0  # of waiting for an order, before leaving and coming again
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_REFUSED_PAUSE_SECONDS = 60.0  # after an order that is not to be answered
_REHEARSED_LOOK_SECONDS = 0.4  # all of a rehearsal is on one machine, and waits for its helper


@dataclass(frozen=True)
class HelperService:
    """What `fedcall helper serve` was asked for.

    Attributes
    ----------
    locate : callable
        Asked before every visit for where the aggregator is; None while there is none.
    lonely_seconds : float or None
        End when no aggregator was reached for so long; None: never.
    """

    study: Study
    keys: Path
    state: Path
    locate: Callable[[], Place | None]
    lonely_seconds: float | None = None

    @property
    def is_rehearsal(self) -> bool:
        """Whether the helper ends with the aggregator of its own machine."""
        return self.lonely_seconds is not None


def serve(service: HelperService) -> str:
    """Answer sum orders until the study is done, or nobody is reached for too long; return why it ended.

    Raises
    ------
    FedcallError
        If keys, log and study do not fit together, or another process holds the state folder.
    """
    with holding(service.state):
        desk = HelperDesk(service.state, service.keys, service.study)
        log.info(
            "helper '%s' of study '%s': %d answers given so far",
            desk.helper.name,
            service.study.name,
            len(desk.log.lines),
        )
        met, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            place = service.locate()
            try:
                if place is not None:
                    ended = _visit(service, desk, place)
                    met, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
                    if ended:
                        return ended
                    continue
            except (Unreachable, NodeRefused) as problem:
                _note(service.state, str(problem) or "the aggregator does not let this node in")
                log.warning("%s; trying again", problem)
            if service.lonely_seconds is not None and time.monotonic() - met > service.lonely_seconds:
                return "no aggregator is there any more"
            time.sleep(pause)
            pause = min(1.6 * pause, _LONGEST_PAUSE_SECONDS if not service.is_rehearsal else 2.0)


@contextmanager
def holding(state: Path) -> Iterator[None]:
    """Hold a helper's state folder for this process; FedcallError if another one does."""
    state = Path(state)
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "serving.lock", "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FedcallError(f"{state}: another helper is serving from this folder; stop it first") from None
        yield


def is_serving(state: Path) -> bool:
    """Say whether a living process holds a helper's state folder."""
    try:
        with open(Path(state) / "serving.lock", "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def last_contact(state: Path) -> tuple[int, str] | None:
    """Return when the helper last heard of the aggregator (seconds since 1970), and what; None if never."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((Path(state) / "contact.json").read_bytes())
        return int(found["seconds"]), str(found["sentence"])
    return None


def _visit(service: HelperService, desk: HelperDesk, place: Place) -> str:
    """Wait for one order and answer it; return why there will be no more, or nothing."""
    study, node_key = service.study.digest, read_node_key(service.keys)
    longest_look = _REHEARSED_LOOK_SECONDS if service.is_rehearsal else LONGEST_LOOK_SECONDS

    def ask(request: Request) -> Answer:
        end = time.monotonic() + _VISIT_SECONDS
        return exchange(place.address, place.ca, node_key, request, end, longest_look=longest_look)

    answer = ask(Request("order", study, 1))
    if answer.kind != "order":
        _note(service.state, answer.sentence or answer.kind)
        if answer.kind == "done":
            return STUDY_IS_DONE
        if answer.kind == "refused":
            raise FedcallError(f"refused by the aggregator: {answer.sentence}")
        return ""

    def fetch(site: str) -> bytes:
        found = ask(Request("listed", study, 1, site.encode()))
        if found.kind != "listed":
            raise Unreachable(f"the update of site '{site}' is not given: {found.sentence or found.kind}")
        return found.model

    try:
        given = desk.answer(answer.document, answer.model, int(time.time()), fetch)
    except ProgramFailed as error:
        raise Unreachable(str(error)) from None
    except FedcallError as error:
        log.error("an order is not answered: %s", error)
        _note(service.state, f"not answered: {error}")
        ask(Request("refusal", study, 1, str(error).encode()))
        time.sleep(_REFUSED_PAUSE_SECONDS)
        return ""
    taken = ask(Request("masks", study, 1, given.statement, given.masks))
    sentence = "answered" if taken.kind == "taken" else f"the aggregator did not take the answer: {taken.sentence}"
    log.info("%s, %d lines in the log", sentence, len(desk.log.lines))
    _note(service.state, sentence)
    if taken.kind != "taken":
        time.sleep(_REFUSED_PAUSE_SECONDS)
    return ""


def _note(state: Path, sentence: str) -> None:
    with suppress(OSError):  # a full disk; not worth stopping for
        write_text(Path(state) / "contact.json", json.dumps({"seconds": int(time.time()), "sentence": sentence}))
