"""Bodies that a registered node can send to the gate: nested without end, in fragments without end, cut off."""

import asyncio
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from fedcall.federation.certificates import ensure_certificates
from fedcall.federation.flower import gate as gates
from fedcall.federation.flower.gate import Gate, GateOptions
from fedcall.federation.flower.replies import SiteReplies
from own_loop import run_apart

UPLOAD_BYTES = 200_000
LIMIT = UPLOAD_BYTES + 64 * 1024


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def gate(tmp_path, key) -> Gate:
    made = ensure_certificates(tmp_path, ("127.0.0.1",))
    (tmp_path / "hop.secret").write_text("f" * 64)
    own = b64encode(public_key_to_bytes(key.public_key())).decode()
    authority, server, server_key = (str(path) for path in (made.authority, made.server, made.server_key))
    options = GateOptions(
        upstream="127.0.0.1:9",
        authority=authority,
        certificate=server,
        certificate_key=server_key,
        node_keys=(own,),
        upload_bytes=UPLOAD_BYTES,
        state=str(tmp_path),
        hop=str(tmp_path / "hop.secret"),
    )
    return Gate(options)


def post(
    gate: Gate, key: ec.EllipticCurvePrivateKey, call: str, pieces, length: bytes | None = None
) -> tuple[int, int]:
    """Send a body in pieces; return the status and how many pieces were taken."""
    stamp, taken, statuses = now().isoformat(), 0, []
    iterator = iter(pieces)
    headers = [
        (b"flwr-public-key", b64encode(public_key_to_bytes(key.public_key()))),
        (b"flwr-timestamp", stamp.encode()),
        (b"flwr-signature", b64encode(sign_message(key, stamp.encode()))),
    ]
    headers += [(b"content-length", length)] if length is not None else []

    async def receive():
        nonlocal taken
        taken += 1
        piece = next(iterator, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message):
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/v1/fleet/{call}",
        "headers": headers,
        "client": ("1.2.3.4", 5),
    }
    run_apart(gate(scope, receive, send))
    return statuses[0], taken


def nested(depth: int) -> bytes:
    """Return the bytes of an ObjectTree in an ObjectTree, so deep, without a library's limit."""
    field = ObjectTree.DESCRIPTOR.fields_by_name["children"].number
    body = b""
    for _ in range(depth):
        body = bytes([field << 3 | 2]) + _varint(len(body)) + body
    field = PushMessagesRequest.DESCRIPTOR.fields_by_name["message_object_trees"].number
    return bytes([field << 3 | 2]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@pytest.mark.parametrize("depth", [1, 90, 99, 200, 5_000, 60_000])
def test_gate__deeply_nested_messages_are_refused(gate, key, depth):
    body = nested(depth)
    status, _ = post(gate, key, "push-messages", [body])
    assert status in ((400, 403, 413) if depth < 100 else (400, 413))
    assert post(gate, key, "push-messages", [b"\x00"])[0] in (400, 403), "and the gate goes on"


def test_replies__a_nested_answer_of_flower_is_no_answer():
    replies = SiteReplies(10**6)
    field = PullMessagesResponse.DESCRIPTOR.fields_by_name["message_object_trees"].number
    body = nested(50_000)[1:]
    replies.note_messages(bytes([field << 3 | 2]) + body)
    replies.note_activation(body)


@pytest.mark.parametrize("length", [None, b"0", b"100"])
def test_gate__a_body_in_endless_fragments_is_cut_at_the_limit(gate, key, length):
    """Chunked, or with a length that is a lie: pieces of one byte are read up to the limit and no further."""

    def endless():
        while True:
            yield b"x" * 1_000

    status, taken = post(gate, key, "push-object", endless(), length)
    assert status == 413
    assert taken <= LIMIT // 1_000 + 2


@pytest.mark.parametrize("length", [b"-1", b"1e9", b"99999999999999999999", "\u0661".encode(), b" 5", b"5, 5", b""])
def test_gate__a_length_that_is_none_is_refused_unread(gate, key, length):
    status, taken = post(gate, key, "push-object", [b"x"], length)
    assert (status, taken) == (413, 0)


def test_gate__empty_fragments_end_in_time(gate, key, monkeypatch):
    """A body that never grows and never ends is given up after its time, and holds no call of the site."""
    monkeypatch.setattr(gates, "_BODY_SECONDS", 0.2)

    class Slowly:
        def __iter__(self):
            return self

        def __next__(self):
            return b""

    async def pause(receive):
        await asyncio.sleep(0.01)
        return await receive

    real = asyncio.wait_for
    monkeypatch.setattr(gates.asyncio, "wait_for", lambda waited, seconds: real(pause(waited), seconds))
    assert post(gate, key, "push-object", Slowly())[0] == 408
    assert set(gate._busy.values()) == {0}
