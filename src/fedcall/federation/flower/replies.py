"""What a node may send to the SuperLink: one reply to each message it was given, in its own name, and not for ever.

Flower stores whatever a registered node pushes, from any node to any node, for as long as the sender likes. An exchange
of fedcall's needs none of that.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse, PushMessagesRequest
from google.protobuf.message import DecodeError

LONGEST_SECONDS = 2 * 3600.0  # of a reply's life; our questions live one hour, and a reply no longer than they
_REMEMBERED_NODES = 8
_REMEMBERED_MESSAGES = 256
_HOUR_SECONDS = 3600.0


class Forbidden(Exception):  # noqa: N818
    """A push that no exchange of fedcall's makes; says why."""


class SiteReplies:
    """What one site was given through the gate, and what it may therefore send.

    Parameters
    ----------
    bytes_per_hour : int
        Most bytes of messages and objects that the site may push within any hour.
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, bytes_per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_hour, self._clock = bytes_per_hour, clock
        self._nodes: OrderedDict[int, None] = OrderedDict()
        self._given: OrderedDict[str, str] = OrderedDict()  # message id: id of the reply, empty before
        self._pushed: deque[tuple[float, int]] = deque()
        self._pushed_bytes = 0

    def note_activation(self, response: bytes) -> None:
        """Remember the node's number that the SuperLink gave to the site."""
        try:
            self._nodes[ActivateNodeResponse.FromString(response).node_id] = None
        except DecodeError:
            return
        while len(self._nodes) > _REMEMBERED_NODES:
            self._nodes.popitem(last=False)

    def note_messages(self, response: bytes) -> None:
        """Remember which messages the site was given."""
        try:
            messages = PullMessagesResponse.FromString(response).messages_list
        except DecodeError:
            return
        for message in messages:
            self._given.setdefault(message.metadata.message_id, "")
        while len(self._given) > _REMEMBERED_MESSAGES:
            self._given.popitem(last=False)

    def check(self, request: PushMessagesRequest) -> None:
        """Let one reply through.

        Raises
        ------
        Forbidden
            Unless it is one message, from the site's own node, in reply to one that the site was given and has not
            answered with another, of bounded life.
        """
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise Forbidden("one message at a time")
        metadata = request.messages_list[0].metadata
        if request.node.node_id not in self._nodes or metadata.src_node_id != request.node.node_id:
            raise Forbidden("a message comes from the node that sends it")
        reply = self._given.get(metadata.reply_to_message_id)
        if reply is None:
            raise Forbidden("a message replies to one that the node was given")
        if reply not in ("", metadata.message_id):
            raise Forbidden("this message was answered already")
        if not 0 < metadata.ttl <= LONGEST_SECONDS:
            raise Forbidden(f"a reply lives at most {LONGEST_SECONDS:.0f} s")
        self._given[metadata.reply_to_message_id] = metadata.message_id

    def spend(self, size: int) -> bool:
        """Count bytes that the site pushes; say whether they are within its hour."""
        now = self._clock()
        while self._pushed and now - self._pushed[0][0] > _HOUR_SECONDS:
            self._pushed_bytes -= self._pushed.popleft()[1]
        if self._pushed_bytes + size > self._bytes_per_hour:
            return False
        if self._pushed and now - self._pushed[-1][0] < 1.0:  # a second's bytes are one entry
            moment, before = self._pushed.pop()
            self._pushed.append((moment, before + size))
        else:
            self._pushed.append((now, size))
        self._pushed_bytes += size
        return True
