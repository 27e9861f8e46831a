"""Our ServerApp: asks every node that comes online what it wants, and answers from the study's state.

The round loop is ours (`state`), not `Strategy.start()`, which always begins at round 1 and lets one bad site
break the round. There is no redelivery in Flower, so nothing here relies on it: a node that comes back is asked again.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.datasites import Datasites
from fedcall.federation.aggregator.drops import Drops
from fedcall.federation.aggregator.last_seen import LastSeen
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import ANSWER, ASK, Answer, Request, pack_answer, unpack_request
from fedcall.protection.bfv import ProgramFailed
from fedcall.shown import shown

_BUSY_SECONDS = 0.1  # between looks at the grid while sites come, go and talk
_QUIET_SECONDS = 0.25
_QUIET_AFTER_SECONDS = 3.0
_ASK_AGAIN_SECONDS = 60.0
_REST_SECONDS = 1.0  # of a node that stays, before it is asked again
_MESSAGE_SECONDS = 3600.0
_FULL_SECONDS = 2.0
_LINGER_SECONDS = 15.0  # for a lost answer to be asked for again, once the study is done
_DONE_SECONDS = 60.0  # for sites that do not fetch the final model; an aggregator that ends when idle ends sooner then

log = logging.getLogger("fedcall.aggregator")


@dataclass
class _Session:
    """One visit of a node: from coming online to leaving."""

    site: str
    node: int
    asked: str = ""
    asked_at: float = 0.0
    answered: str = ""
    rests_since: float | None = None  # it stays, and its reply was lost, or it has nothing to ask or its answer
    waiting: Request | None = None
    got_final: bool = False
    offered: bool = False  # its last answer was evidence, to which a site replies with its upload
    told: str = ""  # the last failure of its replies that was logged

    def is_to_be_asked(self, now: float) -> bool:
        """Whether the node is new, has lost our question, or stays and has had its rest."""
        is_lost = bool(self.asked) and now - self.asked_at > _ASK_AGAIN_SECONDS
        rest = _REST_SECONDS if self.waiting is None else _ASK_AGAIN_SECONDS
        has_rested = self.rests_since is not None and now - self.rests_since > rest
        return self.asked_at == 0 or is_lost or has_rested


def make_app(
    state: StudyState,
    node_keys: Mapping[bytes, str],
    idle_seconds: float | None,
    should_stop: Callable[[], bool],
    folders: Sequence[Drops | Datasites],
) -> ServerApp:
    """Return a ServerApp that serves `state` until it should stop, or, with `idle_seconds`, nobody talks any more.

    It serves the nodes that come online and the sites that take part through folders alike.
    `node_keys` says which site a node's public key belongs to. A node's registered name is not enough: whoever reaches
    the Control API on this machine could register another key under a site's name.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _: Context) -> None:
        desk = _Desk(grid, state, node_keys, folders)
        last_visit = time.monotonic()
        while not should_stop():
            if desk.look():
                last_visit = time.monotonic()
            silence = time.monotonic() - last_visit
            if _is_over(state, silence, idle_seconds):
                return
            time.sleep(_BUSY_SECONDS if time.monotonic() - desk.stirred < _QUIET_AFTER_SECONDS else _QUIET_SECONDS)

    return app


def _is_over(state: StudyState, silence: float, idle_seconds: float | None) -> bool:
    if idle_seconds is None:  # a service: a site may come back long after the study for a receipt or the final model
        return False
    if state.is_done and state.all_fetched and silence > min(_LINGER_SECONDS, idle_seconds):
        log.info("study '%s' is done and every site has the final model", state.study.name)
        return True
    if silence > min(idle_seconds, _DONE_SECONDS if state.is_done else idle_seconds):
        log.info("nobody has talked for %.0f s; the state is kept and can be taken up again", silence)
        return True
    return False


def _is_request(reply: Message) -> bool:
    """Say whether a node replied to an answer with a request, in place of a note that it has it."""
    if reply.has_error():
        return False
    try:
        unpack_request(reply.content)
    except FedcallError:
        return False
    return True


class _Desk:
    """Holds the sessions of the nodes that are online; `stirred` is when one last came, left or said something."""

    def __init__(
        self, grid: Grid, state: StudyState, node_keys: Mapping[bytes, str], folders: Sequence[Drops | Datasites]
    ) -> None:
        self.stirred = 0.0
        self._grid, self._state, self._node_keys, self._folders = grid, state, node_keys, folders
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._presence = LastSeen(state.files.folder)
        self._helpers = {helper.name for helper in state.study.protection.helpers}

    def look(self) -> bool:
        """Greet who came, forget who left, answer who asked; say whether any site is here."""
        online = {
            (node.node_id, node.last_activated_at): self._node_keys[node.public_key]
            for node in self._grid.get_nodes()
            if node.public_key in self._node_keys
        }
        if online.keys() != self._sessions.keys():
            self.stirred = time.monotonic()
        for visit in [visit for visit in self._sessions if visit not in online]:
            self._leave(self._sessions.pop(visit))
        for visit, name in online.items():
            session = self._sessions.setdefault(visit, _Session(name, visit[0]))
            if session.is_to_be_asked(time.monotonic()):
                self._ask(session)
        self._read_replies()
        through_folders = [site for folder in self._folders for site in folder.look()]
        self._presence.note([*online.values(), *through_folders])
        self._close_round()
        for session in self._sessions.values():
            if session.waiting is not None:
                self._look_again(session, session.waiting)
        sites = [name for name in online.values() if name not in self._helpers]  # a helper alone is nobody to stay for
        return bool(sites or through_folders)

    def _ask(self, session: _Session) -> None:
        session.asked = self._send(session, ASK, RecordDict())
        session.asked_at, session.rests_since = time.monotonic(), None

    def _close_round(self) -> None:
        try:
            if self._state.close_round_if_due():
                log.info(self._state.progress)
        except (OSError, ProgramFailed) as error:  # a full disk, or memory: nothing was lost; the next look tries again
            log.error("the round cannot be closed: %s", error)
            time.sleep(_FULL_SECONDS)

    def _read_replies(self) -> None:
        sessions = {message: found for found in self._sessions.values() for message in (found.asked, found.answered)}
        sessions.pop("", None)
        for reply in self._grid.pull_messages(list(sessions)) if sessions else ():
            message = reply.metadata.reply_to_message_id
            session = sessions[message]
            self.stirred = time.monotonic()
            if message == session.answered and session.offered and _is_request(reply):
                session.answered, session.offered = "", False
                self._reply_to(session, reply.content)
            elif message == session.answered:
                # Only a node that stays, a stock SuperNode, replies to an answer; fedcall's own client has left.
                session.answered, session.rests_since = "", time.monotonic()
            elif reply.has_error():
                session.asked, session.rests_since = "", time.monotonic()
                self._tell_no_reply(session, reply.error.reason)
            else:
                session.asked = ""
                self._reply_to(session, reply.content)

    def _tell_no_reply(self, session: _Session, reason: str) -> None:
        reason = shown(reason.strip())
        if reason == session.told:
            return
        session.told = reason
        hint = "; its SuperNode lets no app in: serve with --pin and the site's pin.json" if "FAB" in reason else ""
        log.info("site %s: no reply (%s)%s", session.site, reason, hint)

    def _reply_to(self, session: _Session, content: RecordDict) -> None:
        try:
            request = unpack_request(content)
        except Exception as error:  # whatever a node can think of
            self._refuse(session, f"not a message of fedcall ({type(error).__name__}: {error})")
            return
        try:
            self._handle(session, request)
        except FedcallError as error:
            self._refuse(session, str(error))
        except OSError as error:  # a full disk: the site tries again, and nothing was decided
            log.error("site %s: not answered: %s", session.site, error)
            sentence = f"the aggregator cannot store this now ({error.strerror}); try again later"
            self._answer(session, Answer("wait", sentence=sentence))

    def _refuse(self, session: _Session, sentence: str) -> None:
        sentence = shown(sentence, 500)
        log.warning("site %s: %s", session.site, sentence)
        self._answer(session, Answer("refused", sentence=sentence))

    def _handle(self, session: _Session, request: Request) -> None:
        if request.kind == "nothing" and request.study == self._state.study.digest:
            session.rests_since = time.monotonic()
            return
        answer = respond(self._state, session.site, request)
        session.waiting = request if answer.kind == "wait" else None
        self._give(session, request, answer)

    def _look_again(self, session: _Session, request: Request) -> None:
        """Give a site what it waits for, if it is there by now."""
        answer = respond(self._state, session.site, request)
        if answer.kind != "wait":
            session.waiting = None
            self._give(session, request, answer)

    def _give(self, session: _Session, request: Request, answer: Answer) -> None:
        self._answer(session, answer)
        session.offered = answer.kind == "evidence"
        if answer.kind == "model":
            session.got_final = request.round >= self._state.final_round

    def _leave(self, session: _Session) -> None:
        if session.got_final:
            self._state.mark_fetched(session.site)

    def _answer(self, session: _Session, answer: Answer) -> None:
        session.answered = self._send(session, ANSWER, pack_answer(answer))

    def _send(self, session: _Session, kind: str, content: RecordDict) -> str:
        message = Message(content, session.node, kind, ttl=_MESSAGE_SECONDS)
        return str(next(iter(self._grid.push_messages([message])), "") or "")
