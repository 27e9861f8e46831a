"""How many connections a process may hold, seen at its start, before anybody connects; and how the server ends."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn

from fedcall.federation.certificates import ensure_certificates
from fedcall.federation.flower.connections import LimitedServer

ALLOWED = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from fedcall.federation.flower.connections import connections_allowed
print(connections_allowed(150))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"),
    [(256, 1024, 150), (1024, 1024, 150), (256, 256, 96)],
    ids=["raised as far as needed", "enough", "as many as the machine allows"],
)
def test_connections_allowed__descriptors_are_counted_at_the_start(soft: int, hard: int, allowed: int) -> None:
    done = _in_a_process_with(soft, hard)
    assert (done.returncode, done.stdout.split()) == (0, [str(allowed)]), done.stderr
    assert ("allows 96 connections instead of 150" in done.stderr) == (allowed == 96)


def test_connections_allowed__too_few_descriptors_are_refused_with_what_to_do() -> None:
    done = _in_a_process_with(180, 180)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "OSError: the limit of open files is 180; 192 are needed (ulimit -n)"


def test_limited_server__ends_when_it_is_told_to(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, ["127.0.0.1"])
    config = uvicorn.Config(
        lambda *_: None, lifespan="off", ssl_certfile=made.server, ssl_keyfile=made.server_key, log_level="warning"
    )
    server = LimitedServer(config, 40)

    async def start_and_stop(listener: socket.socket) -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not serving.done(), serving.result()
            await asyncio.sleep(0.01)
        server.should_exit = True
        await asyncio.wait_for(serving, 60)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(start_and_stop(listener))


def _in_a_process_with(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ALLOWED, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
