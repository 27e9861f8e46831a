"""The aggregator's side of Flower's internals: a SuperLink of our own and our ServerApp connected to it.

This is the only server file that imports Flower's internals (pinned to flwr 1.41; a contract test guards it).

The SuperLink is transport: a child process on loopback with TLS, node authentication, SQLite and process isolation.
A secret that only we know keeps every other program from acquiring our run's task, so the ServerApp runs in this
process. Flower's database is made anew at every start: everything that must survive a kill lies in fedcall's own
files (`federation.study_state`), and a fresh database knows no half-dead node that would lock a site out for a minute.
"""

import ctypes
import hashlib
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Context
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import context_from_proto, fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from fedcall.errors import FedcallError
from fedcall.federation.certificates import Certificates
from fedcall.federation.study import Site

# What a ServerApp must be wrapped in. Nothing in it is ever installed or run: the app runs in this process.
_BUNDLE = {
    "pyproject.toml": b"""\
[project]
name = "fedcall-aggregator"
version = "1.0.0"
description = "fedcall aggregator"
license = "MIT"
dependencies = []

[tool.flwr.app]
publisher = "fedcall"

[tool.flwr.app.components]
serverapp = "fedcall.federation.server_app:app"
clientapp = "fedcall.federation.server_app:app"
""",
}
_TASK_HEARTBEAT_SECONDS = 10.0
_START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class SuperLinkLost(Exception):  # noqa: N818  (the supervisor starts another)
    """The SuperLink died or does not answer."""


@contextmanager
def superlink(folder: Path, certificates: Certificates, port: int) -> Iterator[str]:
    """Run a SuperLink on loopback for as long as the context lasts; yield its address.

    The child is killed by the kernel when this process dies in whatever way.

    Raises
    ------
    SuperLinkLost
        If it does not answer within a minute.
    """
    folder = Path(folder).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    secret = folder / "superexec.secret"
    secret.touch(mode=0o600)
    secret.write_bytes(secrets.token_bytes(32))
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [
        *(str(binaries / "flower-superlink"), "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", str(certificates.authority.resolve())),
        *("--ssl-certfile", str(certificates.server.resolve())),
        *("--ssl-keyfile", str(certificates.server_key.resolve())),
        *("--enable-supernode-auth", "--database", str(folder / "state.db"), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret), "--disable-runtime-dependency-installation"),
    ]
    parent = os.getpid()
    with open(folder / "superlink.log", "ab") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _die_with(parent),
        )
    try:
        address = f"127.0.0.1:{port}"
        _wait_until_healthy(child, address, certificates.authority, folder / "superlink.log")
        yield address
    finally:
        _stop(child)


@contextmanager
def connected_grid(
    address: str, folder: Path, authority: Path, sites: tuple[Site, ...]
) -> Iterator[tuple[HttpGrid, Context]]:
    """Register the sites' node keys by name, start a run, and yield the grid and context of its ServerApp.

    Raises
    ------
    SuperLinkLost
        If the SuperLink stops answering, here or inside the context.
    """
    root = authority.read_bytes()
    os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", FLWR_HOME=str(folder))
    try:
        bundle = build_fab_from_files(_BUNDLE)[0]
        with ControlHttpClient.from_server_address(address, False, root, []) as control:
            for site in sites:
                control.RegisterNode(RegisterNodeRequest(public_key=node_key_bytes(site), name=site.name))
            fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
            run_id = control.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id
        token = _acquire_task(address, root, (folder / "superexec.secret").read_bytes())
        grid = HttpGrid(address, False, root, token=token)
        # A SuperLink that is gone must surface here, to be started again, rather than be waited for.
        grid._retry_invoker.max_tries, grid._retry_invoker.max_time = 4, 10.0
        task = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        if task.run.run_id != run_id:
            raise SuperLinkLost(f"{address}: another run ({task.run.run_id}) than ours ({run_id}) was handed to us")
        TaskIdentity.task_id, TaskIdentity.run_id = task.task_id, run_id
        TaskIdentity.node_id = task.context.node_id
        grid.set_run(run_from_proto(task.run))
        with _heartbeat(lambda: grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())):
            try:
                yield grid, context_from_proto(task.context)
            finally:
                grid.close()
    except httpx.HTTPError as error:
        raise SuperLinkLost(f"{address}: {error or type(error).__name__}") from error


def node_key_bytes(site: Site) -> bytes:
    """Return a site's node key as Flower stores it.

    Raises
    ------
    FedcallError
        If the study's text is not a P-384 public key.
    """
    try:
        key = load_ssh_public_key(site.node_key.encode())
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FedcallError(f"site '{site.name}': node_key is not an ECDSA public key in OpenSSH form")
    return public_key_to_bytes(key)


def free_port(preferred: int = 0) -> int:
    """Return a free loopback port: the preferred one if it is free, else any."""
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise FedcallError("no free port on 127.0.0.1")


def _acquire_task(address: str, root: bytes, secret: bytes) -> str:
    interceptors = [
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}),
    ]
    with RuntimeHttpClient.from_server_address(address, False, root, interceptors) as runtime:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            acquired = runtime.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
            if acquired.token:
                return str(acquired.token)
            time.sleep(0.1)
    raise SuperLinkLost(f"{address}: the SuperLink offers no task for our run")


@contextmanager
def _heartbeat(send: Callable[[], object]) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_TASK_HEARTBEAT_SECONDS):
            with suppress(httpx.HTTPError, ValueError):
                send()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=5)


def _wait_until_healthy(child: subprocess.Popen[bytes], address: str, authority: Path, log: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if child.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise SuperLinkLost(f"the SuperLink ended with exit code {child.returncode}: {' | '.join(tail)}")
        with suppress(httpx.HTTPError):
            if httpx.get(f"https://{address}/health", verify=context, timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise SuperLinkLost(f"{address}: no SuperLink within {_START_SECONDS:.0f} s; see {log}")


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this (child) process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
