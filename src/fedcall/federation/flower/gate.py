"""The gate: the aggregator's only door to the outside, a small HTTPS proxy that passes Flower's Fleet API.

Flower's one port also carries the Control and Runtime APIs, which nobody outside may reach, reads bodies of any size,
and checks who sent them only afterwards. So the SuperLink stays on loopback, and the gate, a process of its own that
holds no key but that of its TLS certificate, looks at a request in this order: is the path one that a site needs
(else 403), is it signed by a node key of the study (else 401, without reading the body), is the body as small as
promised (else 413, and the connection is cut), is there room on disk for an upload (else 507). Only a whole body is
passed on, so a slow sender holds up nobody else.
"""

import asyncio
import base64
import json
import logging
import math
import shutil
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.exceptions import UnsupportedAlgorithm
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from google.protobuf.message import DecodeError

from fedcall.federation.child import Child, running
from fedcall.federation.flower.connections import LimitedServer, TimedConnection, connections_allowed
from fedcall.federation.flower.hop import Hop
from fedcall.federation.flower.refusal_log import RefusalLog
from fedcall.federation.flower.replies import Forbidden, SiteReplies
from fedcall.shown import log_on_stderr

FLEET = "/v1/fleet/"
# What fedcall's client and a stock SuperNode call; not registering and unregistering of nodes.
CALLS = frozenset(
    FLEET + call
    for call in (
        *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages"),
        *("push-object", "pull-object", "confirm-message-received", "get-run", "get-fab"),
    )
)
CHUNK_BYTES = 5 * 1024 * 1024  # Flower splits arrays into objects of at most this size
_ENVELOPE_BYTES = 64 * 1024  # around an object, and for calls without one
_OTHER_OBJECTS = 16  # of a message, beside the chunks of its file
_SPARE_BYTES = 16 * 1024 * 1024  # of disk kept for logs, receipts and the next model

_BODY_STALL_SECONDS = 20.0
_BODY_SECONDS = 300.0
_UPSTREAM_SECONDS = 60.0
_CONNECTIONS = 512
_CALLS_PER_SITE = 8
_UPLOADS_PER_HOUR = 600  # of a site; a rehearsal's rounds are short
_LEAST_BYTES_PER_HOUR = 256 * 1024 * 1024

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("fedcall.gate")


@dataclass(frozen=True)
class GateOptions:
    """What the gate's process gets; certificates and keys are paths.

    `node_keys` are the node keys of the study as Flower sends them, base64; `upload_bytes` the size of the largest
    update with its claim; `hop` names the file of the secret that the SuperLink asks for.
    """

    upstream: str
    authority: str
    certificate: str
    certificate_key: str
    node_keys: tuple[str, ...]
    upload_bytes: int
    state: str
    hop: str


@contextmanager
def gate(options: GateOptions, listener: socket.socket) -> Iterator[Child]:
    """Run the gate on a listening socket for as long as the context lasts."""
    command = [
        sys.executable,
        "-m",
        "fedcall.federation.flower.gate",
        str(listener.fileno()),
        json.dumps(asdict(options)),
    ]
    with running("the gate", command, Path(options.state) / "gate.log", sockets=[listener.fileno()]) as child:
        yield child


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gate:
    """The ASGI application of the gate."""

    def __init__(self, options: GateOptions) -> None:
        self._options = options
        self._busy = dict.fromkeys(options.node_keys, 0)
        hourly = max(_UPLOADS_PER_HOUR * options.upload_bytes, _LEAST_BYTES_PER_HOUR)
        self._replies = {key: SiteReplies(hourly) for key in options.node_keys}
        self._refusals = RefusalLog()
        chunks = math.ceil(options.upload_bytes / CHUNK_BYTES)
        self._objects = chunks + _OTHER_OBJECTS
        self._body_bytes = min(options.upload_bytes, CHUNK_BYTES) + _ENVELOPE_BYTES
        self._upstream = httpx.AsyncClient(
            base_url=f"https://{options.upstream}",
            headers=Hop(Path(options.hop).read_text()).headers,
            verify=ssl.create_default_context(cafile=options.authority),
            timeout=httpx.Timeout(_UPSTREAM_SECONDS, connect=5.0),
            # Shorter than the 5 s after which the SuperLink closes an idle connection.
            limits=httpx.Limits(max_connections=100, keepalive_expiry=3.0),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        try:
            if scope["method"] != "POST" or scope["path"] not in CALLS:
                raise _Refused(403, "only the Fleet API is served here")
            headers = dict(scope["headers"])
            key = self._sender(headers)
            if self._busy[key] >= _CALLS_PER_SITE:
                raise _Refused(429, "too many calls at once from this site")
            self._busy[key] += 1
            try:
                body = await self._read(headers, receive)
                if scope["path"].endswith(("/push-messages", "/push-object")):
                    self._check_upload(self._replies[key], scope["path"], body)
                await self._pass_on(scope["path"], headers, body, send, self._replies[key])
            finally:
                self._busy[key] -= 1
        except _Refused as refusal:
            self._refusals.tell((scope.get("client") or ("?",))[0], scope["path"], refusal.status, str(refusal))
            await _answer(send, refusal.status, str(refusal))

    def _sender(self, headers: dict[bytes, bytes]) -> str:
        """Return the node key that signed the request's time stamp; the SuperLink looks at the time itself."""
        key = headers.get(b"flwr-public-key", b"").decode("latin-1")
        if key not in self._busy:
            raise _Refused(401, "no node key of this study")
        try:
            signature = base64.b64decode(headers.get(b"flwr-signature", b""), validate=True)
            public = bytes_to_public_key(base64.b64decode(key))
            if verify_signature(public, headers.get(b"flwr-timestamp", b""), signature):
                return key
        except (ValueError, UnsupportedAlgorithm):
            pass
        raise _Refused(401, "not signed by the node key it names")

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        promised = headers.get(b"content-length", b"0")
        if not promised.isdigit() or int(promised) > self._body_bytes:
            raise _Refused(413, f"a body has at most {self._body_bytes} bytes here")
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await asyncio.wait_for(receive(), _BODY_STALL_SECONDS)
                    if message["type"] == "http.disconnect":
                        raise _Refused(400, "the sender left in the middle of the body")
                    body += message.get("body", b"")
                    if len(body) > self._body_bytes:
                        raise _Refused(413, f"a body has at most {self._body_bytes} bytes here")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _Refused(408, "the body did not arrive in time") from None

    def _check_upload(self, replies: SiteReplies, path: str, body: bytes) -> None:
        if not replies.spend(len(body)):
            raise _Refused(429, "this site has sent more within an hour than uploads need; try again later")
        if path.endswith("/push-object"):
            return
        try:
            request = PushMessagesRequest.FromString(body)
        except DecodeError:
            raise _Refused(400, "not a message of Flower") from None
        if sum(_count(tree, self._objects) for tree in request.message_object_trees) > self._objects:
            raise _Refused(413, f"a message has at most {self._objects} objects here")
        try:
            replies.check(request)
        except Forbidden as error:
            raise _Refused(403, str(error)) from None
        # Twice: an update lies in Flower's database before it lies in the state.
        if shutil.disk_usage(self._options.state).free < 2 * self._options.upload_bytes + _SPARE_BYTES:
            log.error("%s: too little disk space left for an upload", self._options.state)
            raise _Refused(507, "the aggregator has too little disk space left; nothing is lost, try again later")

    async def _pass_on(
        self, path: str, headers: dict[bytes, bytes], body: bytes, send: Send, replies: SiteReplies
    ) -> None:
        kept = {name: value for name, value in headers.items() if name.startswith(b"flwr-")}
        kept |= {name: headers[name] for name in (b"content-type", b"accept") if name in headers}
        request = self._upstream.build_request("POST", path, content=body, headers=list(kept.items()))
        try:
            response = await self._upstream.send(request)
        except httpx.HTTPError as error:
            log.warning("%s: the SuperLink does not answer (%s)", path, type(error).__name__)
            raise _Refused(503, "the aggregator is starting or busy") from None
        if response.status_code == 200 and path.endswith("/activate-node"):
            replies.note_activation(response.content)
        elif response.status_code == 200 and path.endswith("/pull-messages"):
            replies.note_messages(response.content)
        kept_back = [(name, value) for name, value in response.headers.raw if name.startswith(b"flwr-")]
        await _answer(send, response.status_code, response.content, response.headers.get("content-type"), kept_back)


async def _answer(
    send: Send,
    status: int,
    content: str | bytes,
    media: str | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    body = content.encode() if isinstance(content, str) else content
    start = [
        (b"content-type", (media or "text/plain").encode()),
        (b"content-length", str(len(body)).encode()),
        *(headers or []),
    ]
    if isinstance(content, str):  # a refusal: what else the sender has to say is not read
        start.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def _count(tree: ObjectTree, limit: int) -> int:
    """Return how many objects a tree holds, or any number above `limit` if there are more."""
    count, waiting = 0, [tree]
    while waiting and count <= limit:
        count += 1
        waiting += waiting.pop().children
    return count


def main() -> None:
    """Serve on an inherited socket: `python -m fedcall.federation.flower.gate DESCRIPTOR OPTIONS`."""
    log_on_stderr(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    options = json.loads(sys.argv[2])
    options["node_keys"] = tuple(options["node_keys"])
    found = GateOptions(**options)
    try:
        most = connections_allowed(_CONNECTIONS)
    except OSError as error:
        log.error("%s", error)
        sys.exit(1)
    config = uvicorn.Config(
        Gate(found),
        http=TimedConnection,
        ws="none",
        lifespan="off",
        ssl_certfile=found.certificate,
        ssl_keyfile=found.certificate_key,
        timeout_keep_alive=8,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32 * 1024,
        server_header=False,
        access_log=False,
        log_level="warning",
    )
    LimitedServer(config, most).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
