"""Another user of the coordinator's machine reaches Flower's port on loopback, and gets nothing there."""

import ssl
import stat
from pathlib import Path

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest, StopRunRequest

from consortium import make_consortium
from fedcall.federation.flower.hop import HEADER, Guard
from own_loop import run_apart
from service import processes, served

SECRET = "f" * 64


def status_of(headers: list[tuple[bytes, bytes]], kind: str = "http") -> list[int]:
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    async def send(message):
        sent.append(message.get("status"))

    async def receive():
        raise AssertionError("the body of a stranger is not read")

    run_apart(Guard(app, SECRET)({"type": kind, "headers": headers}, receive, send))
    return sent


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [SECRET[:-1].encode()],
        [SECRET.encode() + b"0"],
        [SECRET.encode(), b"x"],
        [SECRET.encode()] * 2,
        ["\xff".encode("latin-1")],
    ],
)
def test_guard__refuses_what_lacks_the_secret(values):
    headers = [(HEADER.encode(), value) for value in values]
    assert status_of(headers)[0] == 403
    assert status_of(headers, "websocket") == []


def test_guard__passes_what_has_it():
    assert status_of([(b"accept", b"*/*"), (HEADER.encode(), SECRET.encode())]) == [200]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the port in /proc")
def test_hop__another_local_user_cannot_control_flower(tmp_path):
    """The attack that ended the service: stop-run needs no credential of Flower's."""
    consortium = make_consortium(tmp_path, rounds=1)
    with served(consortium) as service:
        command = Path(f"/proc/{processes(service)['superlink']}/cmdline").read_bytes().split(b"\0")
        address = f"https://127.0.0.1:{int(command[command.index(b'--port') + 1])}"
        secret = consortium.state / "superlink/hop.secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_bytes() not in b"\0".join(command), "everybody may read command lines"
        attacks = {
            "/v1/control/list-runs": ListRunsRequest(),
            "/v1/control/stop-run": StopRunRequest(run_id=1),
            "/v1/control/register-node": RegisterNodeRequest(public_key=b"x", name="north"),
            "/v1/runtime/acquire-task": StopRunRequest(),
            "/v1/fleet/get-run": StopRunRequest(),
            "/health": StopRunRequest(),
            "/docs": StopRunRequest(),
        }
        context = ssl.create_default_context(cafile=str(service.ca))
        with httpx.Client(verify=context) as client:
            for path, message in attacks.items():
                for method in ("POST", "GET"):
                    answer = client.request(method, address + path, content=message.SerializeToString())
                    assert answer.status_code == 403, (method, path)
        visitors = [service.visitor(site) for site in ("north", "south")]
        models = [service.fetch(visitor, 1) for visitor in visitors]
        for visitor, model in zip(visitors, models, strict=True):
            assert service.upload(visitor, 1, model).status == "accepted"
        assert service.fetch(visitors[0], 2).read_bytes() == service.fetch(visitors[1], 2).read_bytes()
