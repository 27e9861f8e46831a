"""What a registered node may push: its reply to what it was given, and nothing else."""

import pytest
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node

from fedcall.federation.flower.replies import LONGEST_SECONDS, Forbidden, SiteReplies


def push(
    node: int = 7, source: int = 7, to: str = "asked", identifier: str = "reply", ttl: float = 3600.0, copies: int = 1
):
    metadata = Metadata(src_node_id=source, reply_to_message_id=to, message_id=identifier, ttl=ttl)
    return PushMessagesRequest(
        node=Node(node_id=node),
        messages_list=[Message(metadata=metadata)] * copies,
        message_object_trees=[ObjectTree(object_id=identifier)] * copies,
    )


@pytest.fixture
def replies() -> SiteReplies:
    made = SiteReplies(1000)
    made.note_activation(ActivateNodeResponse(node_id=7).SerializeToString())
    given = PullMessagesResponse(messages_list=[Message(metadata=Metadata(message_id="asked"))])
    made.note_messages(given.SerializeToString())
    return made


def test_check__one_reply_and_the_same_again(replies: SiteReplies) -> None:
    replies.check(push())
    replies.check(push())  # the answer to the first was lost
    with pytest.raises(Forbidden, match="answered already"):
        replies.check(push(identifier="another"))


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ("one that the node was given", push(to="")),
        ("one that the node was given", push(to="never asked")),
        ("the node that sends it", push(source=1)),
        ("the node that sends it", push(node=8, source=8)),
        ("the node that sends it", push(node=8)),
        ("lives at most", push(ttl=1e9)),
        ("lives at most", push(ttl=LONGEST_SECONDS + 1)),
        ("lives at most", push(ttl=float("nan"))),
        ("lives at most", push(ttl=0)),
        ("one message at a time", push(copies=2)),
        ("one message at a time", push(copies=0)),
    ],
)
def test_check__anything_else(replies: SiteReplies, said: str, request_: PushMessagesRequest) -> None:
    with pytest.raises(Forbidden, match=said):
        replies.check(request_)
    replies.check(push())


def test_note__junk_and_floods_are_bounded(replies: SiteReplies) -> None:
    replies.note_activation(b"\xff\xff")
    replies.note_messages(b"\xff\xff")
    for number in range(5000):
        message = Message(metadata=Metadata(message_id=str(number)))
        replies.note_messages(PullMessagesResponse(messages_list=[message]).SerializeToString())
        replies.note_activation(ActivateNodeResponse(node_id=number).SerializeToString())
    assert len(replies._given) <= 256
    assert len(replies._nodes) <= 8


def test_spend__within_an_hour() -> None:
    now = [0.0]
    replies = SiteReplies(1000, lambda: now[0])
    assert replies.spend(600)
    assert replies.spend(400)
    assert not replies.spend(1)
    now[0] = 1800.0
    assert not replies.spend(1)
    now[0] = 3601.0
    assert replies.spend(1000)
    for _ in range(10_000):
        replies.spend(0)
    assert len(replies._pushed) < 10
