"""Sites that stop in the middle of a message, or tidy up too early, harm only themselves."""

import time
from types import SimpleNamespace

import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from consortium import make_consortium
from fedcall.federation.flower import fleet
from fedcall.federation.flower import tolerant_grid as patient_grid
from fedcall.federation.flower.hop import Hop
from fedcall.federation.flower.messages import Request, pack_request, unpack_request
from fedcall.federation.flower.tolerant_grid import TolerantGrid
from fedcall.keys import read_node_key
from service import served

REQUEST = Request("fetch", "0" * 64, 1)


class SuperLink:
    """Stands for the SuperLink's Runtime API: replies whose objects come one by one."""

    def __init__(self) -> None:
        self.pulled = SimpleNamespace(messages_list=[], message_object_trees=[])
        self.objects: dict[str, bytes | None] = {}
        self.confirmed: list[str] = []

    def begin(self, asked: str, request: Request = REQUEST) -> list[tuple[str, bytes]]:
        """Begin a reply to a message; return the objects that must follow."""
        reply = Message(pack_request(request), 1, "query.ask")
        reply.metadata.__dict__["_reply_to_message_id"] = asked
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            objects = {identifier: found.deflate() for identifier, found in get_all_nested_objects(reply).items()}
            self.pulled.message_object_trees.append(get_object_tree(reply))
            self.pulled.messages_list.append(message_to_proto(reply))
        for identifier in objects:
            self.objects.setdefault(identifier, None)
        return list(objects.items())

    def PullMessages(self, request):  # noqa: N802  (Flower's names)
        pulled, self.pulled = self.pulled, SimpleNamespace(messages_list=[], message_object_trees=[])
        return pulled

    def PullObject(self, request):  # noqa: N802
        content = self.objects.get(request.object_id)
        return SimpleNamespace(
            object_found=request.object_id in self.objects, object_available=content is not None, object_content=content
        )

    def ConfirmMessageReceived(self, request):  # noqa: N802
        self.confirmed.append(request.message_object_id)


@pytest.fixture
def link(monkeypatch) -> SuperLink:
    monkeypatch.setattr(patient_grid, "_FIRST_PAUSE_SECONDS", 0.0)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    return SuperLink()


@pytest.fixture
def grid(link, monkeypatch) -> TolerantGrid:
    grid = TolerantGrid("127.0.0.1:9", b"", "token", Hop("secret"))
    grid._client = link
    monkeypatch.setattr(TolerantGrid, "run", SimpleNamespace(run_id=1))
    return grid


def test_pull_messages__takes_a_reply_once_it_is_whole(grid, link):
    objects = link.begin("question")
    for identifier, content in objects:
        assert grid.pull_messages(["question"]) == []
        link.objects[identifier] = content
    assert not link.confirmed
    (reply,) = grid.pull_messages(["question"])
    assert reply.metadata.reply_to_message_id == "question"
    assert unpack_request(reply.content) == REQUEST
    assert len(link.confirmed) == 1
    assert grid.pull_messages(["question"]) == []


def test_pull_messages__a_whole_reply_does_not_wait_for_another(grid, link):
    link.begin("one", Request("fetch", "0" * 64, 2))
    link.objects.update(link.begin("two"))
    (reply,) = grid.pull_messages(["one", "two"])
    assert reply.metadata.reply_to_message_id == "two"
    assert grid.pull_messages(["one"]) == []


def test_pull_messages__a_reply_that_never_ends_is_an_error(grid, link):
    link.begin("question")
    assert grid.pull_messages(["question"]) == []
    link.objects.clear()  # the SuperLink gives up on it
    (reply,) = grid.pull_messages(["question"])
    assert reply.has_error()
    assert reply.metadata.reply_to_message_id == "question"


def test_pull_messages__a_reply_that_cannot_be_read_has_no_records(grid, link):
    link.objects.update({identifier: b"garbage" for identifier, _ in link.begin("question")})
    (reply,) = grid.pull_messages(["question"])
    assert dict(reply.content) == {}


def test_push_messages__a_node_that_confirms_too_early_ends_nothing(grid, monkeypatch):
    def push_messages(self, messages):
        raise ObjectPushError("object", 1, "session")

    monkeypatch.setattr(HttpGrid, "push_messages", push_messages)
    message = Message(pack_request(REQUEST), 1, "query.ask")
    message.metadata.__dict__["_message_id"] = "question"
    assert grid.push_messages([message]) == ["question"]


@pytest.mark.slow
def test_round__goes_on_while_a_site_stops_in_the_middle_of_its_upload(tmp_path, monkeypatch):
    consortium = make_consortium(tmp_path, rounds=1)
    with served(consortium) as service:
        key = read_node_key(consortium.keys("south"))
        with fleet._Node(service.endpoint.address, service.ca, key) as stuck:
            while (question := stuck.receive()) is None:
                time.sleep(0.1)
            with monkeypatch.context() as patch:
                patch.setattr(fleet, "push_objects", lambda *_, **__: None)
                stuck.reply(question, REQUEST)
            north = service.visitor("north")
            assert service.upload(north, 1, service.fetch(north, 1)).status == "accepted"
        south = service.visitor("south")
        assert service.upload(south, 1, service.fetch(south, 1)).status == "accepted"
