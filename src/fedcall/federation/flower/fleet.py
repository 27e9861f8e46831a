"""A site's side of Flower's Fleet API: come online, answer one question, get one answer, leave.

This is the only file of a site that imports Flower's internals (pinned to flwr 1.41; a contract test guards it).
It never downloads or runs code: it knows no message but fedcall's own, and ignores every other.
A stock SuperNode, by contrast, runs whatever Python the aggregator sends.
"""

import logging
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedcall.errors import FedcallError
from fedcall.federation.flower.messages import ANSWER, ASK, Answer, Request, pack_request, unpack_answer
from fedcall.shown import shown

log = logging.getLogger("fedcall.exchange")

# The aggregator takes a node for offline after twice this long; we write twice as often. Short, because a killed
# client keeps its site out until then.
_HEARTBEAT_SECONDS = 10.0
# Looks at an aggregator cost it CPU: often at first, seldom while a round takes hours to open.
_FIRST_LOOK_SECONDS = 0.1
_LOOK_GROWTH = 1.2
LONGEST_LOOK_SECONDS = 3.0
_OBJECT_PAUSE_SECONDS = 0.05  # Flower: 1 s; a message is often seen a moment before all of it is there
_OBJECT_SECONDS = 60.0
# Flower: the key is unknown, or a killed client of the same key is still taken for online (up to 60 s).
_NODE_NOT_ACTIVATED = 2004
_OF_ANOTHER_TIME = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
"""OpenSSL's reasons where the other side answers, and not in TLS."""


class Unreachable(Exception):  # noqa: N818  (an outcome the caller retries)
    """The aggregator did not answer, or does not know this site's node right now; trying again may help."""


@dataclass(frozen=True)
class NodeRefused(Exception):  # noqa: N818
    """The aggregator refused the node key: unregistered, or still held online by a killed client."""

    reason: str


def exchange(
    address: str,
    ca: Path,
    node_key: ec.EllipticCurvePrivateKey,
    request: Request,
    deadline: float,
    then: Callable[[Answer, bytes], Request] | None = None,
    longest_look: float = LONGEST_LOOK_SECONDS,
) -> Answer:
    """Send one request over one connection and return the answer.

    Parameters
    ----------
    address : str
        HOST:PORT of the aggregator's Fleet API.
    ca : Path
        Certificate of the authority that signed the aggregator's certificate.
    deadline : float
        `time.monotonic()` after which to give up.
    then : callable, optional
        Given the answer "evidence" and the server's certificate as this connection saw it (DER), returns what to send
        next over the same connection.
    longest_look : float
        Longest time between two looks for an answer, seconds.

    Returns
    -------
    Answer
        A final answer, or the last "wait" when the deadline passed.

    Raises
    ------
    Unreachable
        If the connection fails or breaks; the request may or may not have arrived, so send it again.
    NodeRefused
        If the aggregator does not let this node key in.
    FedcallError
        If the aggregator's certificate is not signed by `ca`.
    """
    with _translated_errors(address, ca), _Node(address, ca, node_key) as node:
        waiting = Answer("wait", sentence="the aggregator has not asked yet")
        pause = _FIRST_LOOK_SECONDS
        while time.monotonic() < deadline:
            message = node.receive()
            if message is None:
                time.sleep(pause)
                pause = min(_LOOK_GROWTH * pause, longest_look)
                continue
            pause = _FIRST_LOOK_SECONDS
            if message.metadata.message_type == ASK:
                node.reply(message, request)
            elif message.metadata.message_type == ANSWER:
                answer = unpack_answer(message.content)
                if answer.kind == "evidence" and then is not None:
                    request, then = then(answer, node.certificate), None
                    node.reply(message, request)
                    continue
                if answer.kind != "wait":
                    return answer
                if request.kind in ("upload", "masks"):
                    raise Unreachable(f"{address}: {answer.sentence}")
                waiting = answer
        return waiting


class _Node:
    """One activated node: pulls and pushes messages; deactivated on leaving, whatever happened."""

    def __init__(self, address: str, ca: Path, key: ec.EllipticCurvePrivateKey) -> None:
        public = key.public_key()
        self._signature = _NodeSignature(key)
        interceptors = [RuntimeVersionHttpInterceptor(component_name="SuperNode"), self._signature]
        self._client = FleetHttpClient.from_server_address(address, False, str(ca), interceptors)
        self._public = public_key_to_bytes(public)
        self._node = Node()
        self._unconfirmed: list[str] = []
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "_Node":
        try:
            activated = self._client.ActivateNode(
                ActivateNodeRequest(public_key=self._public, heartbeat_interval=_HEARTBEAT_SECONDS)
            )
        except BaseException:
            self._client.close()
            raise
        self._node = Node(node_id=activated.node_id)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with suppress(httpx.HTTPError, ValueError):
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
        self._client.close()

    @property
    def certificate(self) -> bytes:
        """The server's certificate on this connection, DER."""
        return self._signature.certificate

    def receive(self) -> Message | None:
        pulled = self._client.PullMessages(PullMessagesRequest(node=self._node))
        if not pulled.messages_list:
            return None
        stub, tree = message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0]
        run, identifier = stub.metadata.run_id, stub.metadata.message_id
        self._unconfirmed.append(identifier)
        if stub.metadata.message_type == ASK:  # no content; confirming deletes it, so only once it was sent whole
            return stub
        contents = pull_objects(
            [branch.object_id for branch in iterate_object_tree(tree)],
            pull_object_fn=make_pull_object_fn_protobuf(self._client.PullObject, self._node, run),
            initial_backoff=_OBJECT_PAUSE_SECONDS,
            backoff_cap=1.0,
            max_time=_OBJECT_SECONDS,
        )
        confirm = make_confirm_message_received_fn_protobuf(self._client.ConfirmMessageReceived, self._node, run)
        while self._unconfirmed:
            confirm(self._unconfirmed.pop())
        message = inflate_object_from_contents(identifier, contents)
        message.metadata.__dict__["_message_id"] = identifier
        return message

    def reply(self, message: Message, request: Request) -> None:
        answer = Message(pack_request(request), reply_to=message)
        answer.metadata.__dict__["_message_id"] = answer.object_id
        with no_object_id_recompute():
            tree, objects = get_object_tree(answer), get_all_nested_objects(answer)
            stub = message_to_proto(remove_content_from_message(answer))
            pushed = self._client.PushMessages(
                PushMessagesRequest(
                    node=self._node, messages_list=[stub], message_object_trees=[tree], clientapp_runtime_list=[0.01]
                )
            )
            push_objects(
                objects,
                push_object_fn=make_push_object_fn_protobuf(
                    self._client.PushObject, self._node, message.metadata.run_id, pushed.session_id
                ),
                object_ids_to_push=set(pushed.objects_to_push),
            )

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_SECONDS / 2):
            with suppress(httpx.HTTPError, ValueError):
                self._client.SendNodeHeartbeat(
                    SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=_HEARTBEAT_SECONDS)
                )


class _NodeSignature:
    """Signs the time of every call, as Flower's own interceptor does, but by the aggregator's clock.

    Flower refuses a time stamp from 5 s ahead or 5 minutes behind. The offset comes from the Date of a refusal, which
    TLS vouches for.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = b64encode(public_key_to_bytes(key.public_key())).decode()
        self._offset = timedelta()
        self.certificate = b""  # of the server, DER, as the last call saw it

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        response = self._send(context, call_next)
        if response.status_code == httpx.codes.UNAUTHORIZED and "date" in response.headers:
            offset = parsedate_to_datetime(response.headers["date"]) - datetime.now(UTC)
            if abs(offset - self._offset) > timedelta(seconds=2):
                self._offset = offset
                seconds = offset.total_seconds()
                log.warning(
                    "this machine's clock is %.0f s %s the aggregator's; going by theirs (set it: NTP)",
                    abs(seconds),
                    "behind" if seconds > 0 else "ahead of",
                )
                response = self._send(context, call_next)
        return response

    def _send(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        time_stamp = (datetime.now(UTC) + self._offset).isoformat()
        signature = sign_message(self._key, time_stamp.encode("ascii"))
        signed = {TIMESTAMP_HEADER: time_stamp, FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode()}
        context.request.headers.update({FLEET_HTTP_PUBLIC_KEY_HEADER: self._public, **signed})
        response: httpx.Response = call_next(context)
        stream = response.extensions.get("network_stream")
        socket = stream.get_extra_info("ssl_object") if stream is not None else None
        self.certificate = (socket.getpeercert(True) or b"") if socket is not None else b""
        return response


@contextmanager
def _translated_errors(address: str, ca: Path) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        details = FlowerError.from_json(error.response.text)
        if details is not None and details.code == _NODE_NOT_ACTIVATED:
            raise NodeRefused(shown(details.message)) from None
        reason = error.response.text if error.response.headers.get("content-type") == "text/plain" else ""
        raise Unreachable(
            f"{address} answered HTTP {error.response.status_code} {shown(reason, 200)}".strip()
        ) from None
    except httpx.TransportError as error:
        refusal = _tls_error(error)
        if isinstance(refusal, ssl.SSLCertVerificationError):
            raise FedcallError(
                f"{address}: the aggregator's certificate has expired or is not yet valid ({error});"
                " ask the coordinator to renew it, and check this machine's clock"
                if refusal.verify_code in _OF_ANOTHER_TIME
                else f"{address}: the aggregator's certificate is not signed by {ca} ({error});"
                " ask the coordinator for the right ca.crt and address"
            ) from None
        if refusal is not None and refusal.reason in _NO_TLS:
            raise FedcallError(
                f"{address}: does not speak TLS ({error}); fedcall connects with TLS only: is this the aggregator's"
                " address?"
            ) from None
        raise Unreachable(f"{address}: {error or type(error).__name__}") from None
    except ssl.SSLError as error:  # before any connection: it comes from reading `ca`
        raise FedcallError(f"{ca}: not a certificate (PEM) ({error}); ask the coordinator for ca.crt again") from None
    except (ValueError, RuntimeError, ObjectPullError, ObjectPushError) as error:
        # Flower's object transfer reports a vanished session or object this way.
        raise Unreachable(f"{address}: {error}") from None


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return what the TLS library said, which the errors of httpx and of its transport wrap."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
