"""What can be done from outside, at the aggregator's only open port."""

import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest, ActivateNodeResponse, DeactivateNodeRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from consortium import make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.certificates import ensure_certificates
from fedcall.federation.flower import fleet
from fedcall.federation.flower.gate import CALLS
from fedcall.federation.flower.superlink import free_port
from fedcall.federation.site.visits import fetch_global
from fedcall.keys import read_node_key
from service import Service, served

pytestmark = pytest.mark.slow

FLEET = "/v1/fleet/"


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    consortium = make_consortium(tmp_path_factory.mktemp("gate"), rounds=1)
    with served(consortium, "--name", "gate.test", listen="0.0.0.0:0") as running:
        yield running


@pytest.fixture
def outside(service) -> Iterator[httpx.Client]:
    verify = ssl.create_default_context(cafile=str(service.ca))
    with httpx.Client(base_url=f"https://{service.endpoint.address}", verify=verify, timeout=300) as client:
        yield client


@pytest.fixture
def elsewhere(service) -> Iterator[httpx.Client]:
    """A client with an address of its own: refusals are told by address."""
    verify = ssl.create_default_context(cafile=str(service.ca))
    transport = httpx.HTTPTransport(verify=verify, local_address="127.0.0.7")
    with httpx.Client(base_url=f"https://{service.endpoint.address}", transport=transport, timeout=300) as client:
        yield client


def headers(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Sign as a node does."""
    time_stamp = now().isoformat()
    return {
        "content-type": PROTOBUF_MEDIA_TYPE,
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": time_stamp,
        "flwr-signature": b64encode(sign_message(key, time_stamp.encode())).decode(),
    }


@pytest.fixture
def north(service) -> dict[str, str]:
    return headers(read_node_key(service.consortium.keys("north")))


def test_gate__every_other_path_is_forbidden(outside, north):
    paths = {path for _, path in PROTOBUF_REQUEST_TYPES} - CALLS | {"/", "/health", "/docs", "/openapi.json"}
    paths |= {"/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs", "//v1/fleet/get-run"}
    assert len(paths) > 60
    found = {(path, outside.post(path, headers=north).status_code) for path in paths}
    assert {status for _, status in found} == {403}, found
    assert outside.get(FLEET + "pull-messages", headers=north).status_code == 403


def test_gate__strangers_are_refused_before_their_body_is_read(service, outside, north):
    stranger = headers(ec.generate_private_key(ec.SECP384R1()))
    forged = {**north, "flwr-signature": stranger["flwr-signature"]}
    for sender in ({}, stranger, forged):
        assert outside.post(FLEET + "push-object", headers=sender, content=b"").status_code == 401
        assert status_of_promise(service, sender) == 401


def status_of_promise(service: Service, sender: dict[str, str]) -> int:
    """Promise a huge body, send none of it, and return the status of the answer."""
    host, _, port = service.endpoint.address.rpartition(":")
    context = ssl.create_default_context(cafile=str(service.ca))
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname="localhost") as connection:
        lines = [f"POST {FLEET}push-object HTTP/1.1", "host: x", f"content-length: {10**12}"]
        lines += [f"{name}: {value}" for name, value in sender.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.settimeout(300)
        return int(connection.recv(100).split()[1])


def test_gate__large_bodies_are_cut(service, outside, north):
    assert status_of_promise(service, north) == 413

    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(40_000):
            sent += 65536
            yield bytes(65536)

    try:
        status = outside.post(FLEET + "push-object", headers=north, content=endless()).status_code
    except httpx.TransportError:  # cut while we still talk
        status = 413
    assert status == 413
    assert sent < 1e9, "of 2.6e9"


def test_gate__a_message_of_countless_objects(outside, north):
    tree = ObjectTree(object_id="0", children=[ObjectTree(object_id=str(number)) for number in range(1000)])
    body = PushMessagesRequest(message_object_trees=[tree]).SerializeToString()
    assert outside.post(FLEET + "push-messages", headers=north, content=body).status_code == 413


def test_gate__forges_no_lines_in_its_log(service, elsewhere, north):
    log = service.consortium.state / "gate.log"
    for path in ("/x%0d%0a2026-01-01%2000:00%20accepted%1b[2J", "/" + "x" * 30_000, "/%e2%80%ae%c2%85"):
        assert elsewhere.post(path, headers=north).status_code in (403, 400)
    lines = log.read_bytes().decode().split("\n")
    assert any("\\r\\n2026-01-01 00:00 accepted\\x1b[2J" in line for line in lines)
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_gate__refusals_fill_no_disk(service, outside):
    log = service.consortium.state / "gate.log"
    before = log.stat().st_size
    for _ in range(300):
        assert outside.post("/" + "y" * 20_000).status_code in (403, 400)
    assert log.stat().st_size - before < 40_000


def test_gate__a_node_stores_nothing_of_its_own(service, outside, north):
    """Messages to nobody's question, from another node, for ever: Flower would keep them all."""
    activate = ActivateNodeRequest(
        public_key=public_key_to_bytes(read_node_key(service.consortium.keys("north")).public_key()),
        heartbeat_interval=10.0,
    )
    answer = outside.post(FLEET + "activate-node", headers=north, content=activate.SerializeToString())
    node = ActivateNodeResponse.FromString(answer.content).node_id
    assert node
    for source, ttl in ((1, 3600.0), (node, 1e9), (node, 3600.0)):
        metadata = Metadata(src_node_id=source, dst_node_id=1, message_id="0" * 64, ttl=ttl, message_type="query.ask")
        body = PushMessagesRequest(
            node=Node(node_id=node),
            messages_list=[ProtoMessage(metadata=metadata)],
            message_object_trees=[ObjectTree(object_id="0" * 64)],
        ).SerializeToString()
        assert outside.post(FLEET + "push-messages", headers=north, content=body).status_code == 403
    leave = DeactivateNodeRequest(node_id=node)
    assert outside.post(FLEET + "deactivate-node", headers=north, content=leave.SerializeToString()).status_code == 200


def test_gate__idle_connections_keep_nobody_out(service):
    host, _, port = service.endpoint.address.rpartition(":")
    idle: list[socket.socket] = []
    try:
        for _ in range(700):  # more than there are places; each from another address than sites come from
            idle.append(socket.create_connection((host, int(port)), timeout=300, source_address=("127.0.0.9", 0)))
        assert service.fetch(service.visitor("north"), 1).exists()
    finally:
        for connection in idle:
            connection.close()


def test_gate__a_slow_head_is_cut(service):
    host, _, port = service.endpoint.address.rpartition(":")
    context = ssl.create_default_context(cafile=str(service.ca))
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname="localhost") as connection:
        connection.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\n")
        connection.settimeout(300)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_gate__a_site_comes_in(service):
    assert service.fetch(service.visitor("north"), 1).exists()


def test_gate__certificate_names_the_machine(service):
    host, _, port = service.endpoint.address.rpartition(":")
    context = ssl.create_default_context(cafile=str(service.ca))
    for name in ("gate.test", "localhost", "127.0.0.1"):
        with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=name) as connection:
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
    with (
        socket.create_connection((host, int(port))) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="elsewhere.test")


def test_gate__plain_http_gets_nothing(service):
    with pytest.raises(httpx.TransportError):
        httpx.post(f"http://{service.endpoint.address}{FLEET}get-run", timeout=300)


def test_fetch__one_line_for_an_authority_that_is_no_certificate(service, tmp_path):
    visitor, junk = service.visitor("north"), tmp_path / "junk.crt"
    junk.write_text("<html>please log in</html>")
    place = type(visitor.locate())(service.endpoint.address, junk)
    with pytest.raises(FedcallError, match=r"junk\.crt: not a certificate \(PEM\)") as refusal:
        fetch_global(type(visitor)(visitor.study, "north", visitor.keys, lambda: place), 1, tmp_path / "never")
    assert "\n" not in str(refusal.value)


def test_fetch__one_line_for_wrong_authority_and_for_plain_http(service, tmp_path):
    visitor = service.visitor("north")
    impostor = ensure_certificates(tmp_path / "impostor", ()).authority
    place = type(visitor.locate())(service.endpoint.address, impostor)
    wrong = type(visitor)(visitor.study, "north", visitor.keys, lambda: place)
    with pytest.raises(FedcallError, match="not signed by") as refusal:
        fetch_global(wrong, 1, tmp_path / "never")
    assert "\n" not in str(refusal.value)
    address = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", address.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as server:
        try:
            wait_for(address)
            place = type(place)(address, service.ca)
            wrong = type(visitor)(visitor.study, "north", visitor.keys, lambda: place)
            with pytest.raises(FedcallError, match="does not speak TLS") as refusal:
                fetch_global(wrong, 1, tmp_path / "never")
            assert "\n" not in str(refusal.value)
        finally:
            server.kill()


@pytest.mark.parametrize(("first_day", "last_day"), [(-9, -1), (1, 9)], ids=["expired", "not yet valid"])
def test_fetch__one_line_for_a_certificate_of_another_time(service, tmp_path, first_day, last_day):
    """By the aggregator's own authority, at the right address; only the time is wrong."""
    tls = service.consortium.state / "tls"
    authority_key = serialization.load_pem_private_key((tls / "ca.key").read_bytes(), None)
    good = x509.load_pem_x509_certificate((tls / "server.crt").read_bytes())
    today = datetime.now(UTC)
    builder = x509.CertificateBuilder(good.issuer, good.subject, good.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today + timedelta(first_day)).not_valid_after(today + timedelta(last_day))
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    stale = tmp_path / "stale.crt"
    stale.write_bytes(builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(stale, tls / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_greet_with, args=(context, listener), daemon=True).start()
        visitor = service.visitor("north", f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(FedcallError, match="certificate has expired or is not yet valid") as refusal:
            fetch_global(visitor, 1, tmp_path / "never")
    assert "\n" not in str(refusal.value)
    assert "not signed by" not in str(refusal.value)


def _greet_with(context: ssl.SSLContext, listener: socket.socket) -> None:
    with suppress(OSError):  # a client that does not trust the certificate hangs up; the test closes the listener
        while True:
            connection, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass


def wait_for(address: str) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nobody at {address}")


@pytest.mark.parametrize("minutes", [10, -10])
def test_fetch__by_a_clock_that_is_ten_minutes_wrong(service, monkeypatch, caplog, minutes):
    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(minutes=minutes)

    monkeypatch.setattr(fleet, "datetime", Wrong)
    assert service.fetch(service.visitor("north"), 1).exists()
    told = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert len(told) == 1
    side = "ahead of" if minutes > 0 else "behind"
    assert re.search(rf"(59|60)\d s {side}", told[0])


def test_activate__is_only_for_the_key_that_signs(outside, service, north):
    south = read_node_key(service.consortium.keys("south")).public_key()
    body = ActivateNodeRequest(public_key=public_key_to_bytes(south), heartbeat_interval=10.0).SerializeToString()
    assert outside.post(FLEET + "activate-node", headers=north, content=body).status_code == 401
