"""Garbage at admission: mutated claims, updates and messages are all refused, crash nothing and take no memory."""

import base64
import json
import os
import random
import resource
from types import SimpleNamespace

import numpy as np
import pytest
import rfc8785
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load, save

from consortium import SHAPES, make_consortium
from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.federation.aggregator import server_app
from fedcall.federation.aggregator.admission import EarlierUploads, OpenRound, admit_upload
from fedcall.federation.aggregator.server_app import _Desk
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import ASK, Request, pack_request, unpack_answer, unpack_request
from fedcall.keys import read_signing_key
from fedcall.weights import read_weights, weights_digest
from mutations import mutate_body, mutate_bytes, mutate_document, mutate_message, mutate_update

ROUNDS = int(os.environ.get("FEDCALL_FUZZ", "2000"))
MEMORY_MB = 300


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return make_consortium(tmp_path_factory.mktemp("fuzz"), 2, admission={"max_refusals": 10**9})


@pytest.fixture(scope="module")
def upload(consortium):
    """A valid claim, its update and its document."""
    base = read_weights(consortium.initial)
    tensors = consortium.update("north", 1, base)
    claim = consortium.claim("north", 1, base.digest, tensors)
    return consortium.sign_claim(claim, "north"), save(tensors), claim


def judged(consortium, signed, update):
    base = read_weights(consortium.initial).digest
    return admit_upload(consortium.study, "north", EarlierUploads(), OpenRound(1, base, SHAPES), 1, signed, update)


def test_admit_upload__garbage_is_refused(consortium, upload):
    """FEDCALL_FUZZ=20000 for the full number. A third are claims, a third updates, a third claims signed again."""
    signed, update, claim = upload
    assert judged(consortium, signed, update).reason == "ok", "what is mutated is valid"
    generator = random.Random(5)
    key = read_signing_key(consortium.keys("north"))
    reasons: dict[str, int] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(ROUNDS):
        found, changed = signed, update
        if number % 3 == 0:
            found = generator.choice([mutate_bytes, mutate_document])(generator, signed)
        elif number % 3 == 1:
            changed = mutate_update(generator, update)
        else:
            found = _signed_again(generator, key, claim)
        if (found, changed) == (signed, update):
            continue
        decision = judged(consortium, found, changed)
        assert decision.reason not in ("ok", "withheld"), (decision, found[:2000], changed[:300])
        assert decision.sentence.isprintable()
        assert len(decision.sentence) <= 300
        reasons[decision.reason] = reasons.get(decision.reason, 0) + 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{sum(reasons.values())} refused, memory grew by {grown:.0f} MB:", dict(sorted(reasons.items())))
    assert grown < MEMORY_MB
    assert len(reasons) >= 8, "the mutations reach deep into the checks"


def _signed_again(generator, key, claim) -> bytes:
    """A claim that a site with a real key changed and signed, by software of its own."""
    honest = claim.model_dump(mode="json")
    body = mutate_body(generator, honest)
    while body == honest and [type(value) for value in body.values()] == [type(value) for value in honest.values()]:
        body = mutate_body(generator, honest)
    try:
        text = rfc8785.dumps(body)
    except (ValueError, UnicodeError):  # what canonical JSON cannot say
        text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    signature = base64.b64encode(key.sign(b"Claim\0" + text)).decode()
    public = public_text(key.public_key())
    return b'{"body":%s,"public_key":"%s","signature":"%s"}' % (text, public.encode(), signature.encode())


def test_admit_upload__updates_with_a_matching_claim_are_refused(consortium, upload):
    """A site that signs for what it changed: whatever loads is refused by a check of its own."""
    _, update, claim = upload
    generator = random.Random(6)
    reasons = set()
    for _ in range(max(400, ROUNDS // 10)):
        changed = mutate_update(generator, update)
        try:
            tensors = load(changed)
            digest = weights_digest(tensors)
        except Exception:
            continue
        again = consortium.sign_claim(claim.model_copy(update={"update": digest}), "north")
        reason = judged(consortium, again, changed).reason
        reasons.add(reason)
        if reason == "ok":  # another update, whole and honest in form: bits of its noise were flipped
            assert {name: tensor.shape for name, tensor in tensors.items()} == SHAPES
            assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert "malformed" in reasons
    assert "ok" not in reasons or len(reasons) > 2


@pytest.fixture
def task(monkeypatch):
    """Flower's messages ask which task sends them."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class FakeGrid:
    """Stands for Flower's grid: one node is online, and its reply is given."""

    def __init__(self) -> None:
        self.node = SimpleNamespace(node_id=1, public_key=b"north", last_activated_at="0")
        self.reply: RecordDict | None = None
        self.sent: list[Message] = []

    def get_nodes(self):
        return [self.node]

    def push_messages(self, messages):
        self.sent += messages
        return [f"message-{len(self.sent)}"]

    def pull_messages(self, identifiers):
        if self.reply is None or f"message-{len(self.sent)}" not in identifiers:
            return []
        metadata = SimpleNamespace(reply_to_message_id=f"message-{len(self.sent)}")
        return [SimpleNamespace(has_error=lambda: False, content=self.reply, metadata=metadata)]


def test_desk__garbled_messages_are_answered_and_crash_nothing(consortium, upload, task):
    """Requests as Flower delivers them, through the desk, the state and the log. FEDCALL_FUZZ scales it."""
    signed, update, _ = upload
    state = StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )
    grid = FakeGrid()
    desk = _Desk(grid, state, {b"north": "north"}, [])
    generator = random.Random(7)
    for number in range(ROUNDS // 4):
        kind = generator.choice(["upload", "upload", "fetch", "log"])
        valid = Request(kind, consortium.study.digest, 1, signed, update)
        if number % 2:
            content = mutate_message(generator, pack_request(valid))
        else:
            garbled = generator.choice([mutate_bytes, mutate_document])(generator, signed)
            content = pack_request(Request("upload", consortium.study.digest, 1, garbled, update))
            if garbled == signed:
                continue
        if _is_valid(content, signed, update):
            continue
        grid.node = SimpleNamespace(node_id=number, public_key=b"north", last_activated_at=str(number))
        grid.reply = content
        before = len(grid.sent)
        desk.look()
        answer = unpack_answer(grid.sent[-1].content)
        assert len(grid.sent) == before + 2, "a question, and an answer to whatever came"
        assert answer.kind in ("refused", "receipt", "model", "log", "wait")
    assert state.log.site("north").accepted_rounds == 0
    assert (
        StudyState(
            consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
        ).log.log.head
        == state.log.log.head
    )


def _is_valid(content: RecordDict, signed: bytes, update: bytes) -> bool:
    try:
        request = unpack_request(content)
    except FedcallError:
        return False
    return (request.kind, request.claim, request.update) == ("upload", signed, update)


def test_desk__a_reply_that_flower_cannot_read_ends_only_that_visit(consortium, task):
    state = StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )
    grid = FakeGrid()
    grid.reply = RecordDict()
    desk = _Desk(grid, state, {b"north": "north"}, [])
    desk.look()
    assert unpack_answer(grid.sent[-1].content).kind == "refused"
    grid.reply = None
    asked = len(grid.sent)
    desk.look()
    assert len(grid.sent) == asked, "it is not asked again, and nobody else is held up"


def test_desk__a_node_whose_reply_was_lost_is_asked_again(consortium, task, monkeypatch):
    state = StudyState(
        consortium.state, consortium.study, read_signing_key(consortium.keys("coordinator")), consortium.initial
    )
    monkeypatch.setattr(server_app, "_REST_SECONDS", 0.0)
    lost = SimpleNamespace(
        has_error=lambda: True,
        error=SimpleNamespace(reason="the app failed"),
        metadata=SimpleNamespace(reply_to_message_id="message-1"),
    )
    grid = FakeGrid()
    desk = _Desk(grid, state, {b"north": "north"}, [])
    monkeypatch.setattr(grid, "pull_messages", lambda asked: [lost])
    desk.look()
    assert len(grid.sent) == 1
    monkeypatch.setattr(grid, "pull_messages", lambda asked: [])
    desk.look()
    assert [message.metadata.message_type for message in grid.sent] == [ASK, ASK]
