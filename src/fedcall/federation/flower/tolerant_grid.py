"""Flower's grid, so that a slow or broken site does not delay the others: a reply is taken once all of it is there.

Flower's own grid waits for the rest of a reply that a node has begun to send, up to three minutes after its last piece.
One site that was killed in the middle of an upload, or means ill, would hold up all the others that long.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError, inflate_object_from_contents
from flwr.superlink.grid import HttpGrid

from fedcall.federation.flower.hop import Hop

log = logging.getLogger("fedcall.aggregator")

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass
class _Arriving:
    """A reply whose objects are on their way; the one last found missing comes first."""

    metadata: Metadata
    objects: list[str]
    pause: float = field(default_factory=lambda: _FIRST_PAUSE_SECONDS)
    look_at: float = field(default_factory=time.monotonic)


class TolerantGrid(HttpGrid):  # type: ignore[misc]  # Flower's internals have no types
    """A grid whose `pull_messages` returns at once with the replies that are whole.

    A reply that was lost is a message with an error; one that Flower cannot read is a message without records.
    """

    _arriving: dict[str, _Arriving]

    def __init__(self, address: str, root_certificates: bytes, token: str, hop: Hop) -> None:
        super().__init__(address, False, root_certificates, token=token)
        self._hop = hop
        self._arriving = {}

    def _connect(self) -> None:
        super()._connect()
        if self._client is not None:
            self._client._client.headers.update(self._hop.headers)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Push messages; return their ids.

        A node may confirm a message before all of it was pushed, which then fails. That is the node's own loss.
        """
        messages = list(messages)
        try:
            return list(super().push_messages(messages))
        except ObjectPushError as error:
            log.warning("a message was confirmed or expired before it was sent (%s)", error)
            return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the whole replies to these messages, each once; replies to others are given up."""
        wanted = set(message_ids)
        self._arriving = {asked: reply for asked, reply in self._arriving.items() if asked in wanted}
        new = wanted - set(self._arriving)
        if new:
            pulled = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=sorted(new)))
            for stub, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True):
                asked = stub.metadata.reply_to_message_id
                objects = list(dict.fromkeys(branch.object_id for branch in iterate_object_tree(tree)))
                self._arriving[asked] = _Arriving(self._metadata(asked, stub.metadata.message_id), objects)
        replies = []
        for asked, arriving in list(self._arriving.items()):
            reply = self._take(arriving) if time.monotonic() >= arriving.look_at else None
            if reply is not None:
                del self._arriving[asked]
                replies.append(reply)
        return replies

    def _take(self, arriving: _Arriving) -> Message | None:
        """Return the reply if it is whole or lost; what is there of another is not kept in memory."""
        contents = {}
        for position, identifier in enumerate(arriving.objects):
            found = self._runtime_client.PullObject(
                PullObjectRequest(node=self.node, run_id=self.run.run_id, object_id=identifier)
            )
            if not found.object_found:
                error = Error(ErrorCode.MESSAGE_UNAVAILABLE, "the reply was not sent to its end")
                return make_message(arriving.metadata, error=error)
            if not found.object_available:
                arriving.objects.insert(0, arriving.objects.pop(position))
                arriving.look_at = time.monotonic() + arriving.pause
                arriving.pause = min(2 * arriving.pause, _LONGEST_PAUSE_SECONDS)
                return None
            contents[identifier] = found.object_content
        identifier = arriving.metadata.message_id
        self._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self.node, run_id=self.run.run_id, message_object_id=identifier)
        )
        try:
            reply = cast(Message, inflate_object_from_contents(identifier, contents))
            if reply.has_error():
                return make_message(arriving.metadata, error=reply.error)
            return make_message(arriving.metadata, content=reply.content)
        except Exception as error:  # whatever a node can think of
            log.warning("a reply that cannot be read (%s)", type(error).__name__)
            return make_message(arriving.metadata, content=RecordDict())

    def _metadata(self, asked: str, identifier: str) -> Metadata:
        return Metadata(
            run_id=self.run.run_id,
            message_id=identifier,
            src_node_id=self.node.node_id,
            dst_node_id=self.node.node_id,
            reply_to_message_id=asked,
            group_id="",
            created_at=time.time(),
            ttl=0,
            message_type=SYSTEM_MESSAGE_TYPE,
        )
