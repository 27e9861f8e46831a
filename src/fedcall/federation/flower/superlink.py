"""The aggregator's side of Flower's internals: a SuperLink of our own and our ServerApp connected to it.

Beside `tolerant_grid`, this is the only server file that imports Flower's internals (pinned to flwr 1.41; a contract
test guards it).

The SuperLink is transport: a child process on loopback with TLS, node authentication, SQLite and process isolation.
A secret that only we know keeps every other program from acquiring our run's task, so the ServerApp runs in this
process. Flower's database is made anew at every start: everything that must survive a kill lies in fedcall's own
files (`federation.aggregator.state`), and a fresh database knows no half-dead node that would lock a site out for a
minute.
"""

import json
import os
import secrets
import shutil
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Context
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

from fedcall.errors import FedcallError
from fedcall.federation.certificates import Certificates
from fedcall.federation.child import Child, ChildLost, running
from fedcall.federation.flower.app_bundle import app_bundle, app_hash
from fedcall.federation.flower.hop import Hop, make_secret
from fedcall.federation.flower.tolerant_grid import TolerantGrid
from fedcall.files import make_private_folder
from fedcall.study.protection import Helper
from fedcall.study.terms import Site

_TASK_HEARTBEAT_SECONDS = 10.0
_START_SECONDS = 300.0  # a bound on what hangs: a busy machine starts it late


@contextmanager
def superlink(folder: Path, certificates: Certificates, port: int) -> Iterator[Child]:
    """Run a SuperLink on a loopback port for as long as the context lasts; it may take a moment to answer."""
    folder = Path(folder).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    secret = folder / "superexec.secret"
    secret.touch(mode=0o600)
    secret.write_bytes(secrets.token_bytes(32))
    make_secret(hop_secret(folder))
    binaries = Path(sys.executable).parent
    environment = {
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [
        *(sys.executable, "-m", "fedcall.federation.flower.hop", str(hop_secret(folder))),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", str(certificates.authority.resolve())),
        *("--ssl-certfile", str(certificates.server.resolve())),
        *("--ssl-keyfile", str(certificates.server_key.resolve())),
        *("--enable-supernode-auth", "--database", str(folder / "state.db"), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret), "--disable-runtime-dependency-installation"),
    ]
    with running("the SuperLink", command, folder / "superlink.log", environment) as child:
        yield child


def hop_secret(folder: Path) -> Path:
    """Return where the secret lies that every request to the SuperLink of a folder carries."""
    return Path(folder).resolve() / "hop.secret"


def wait_until_healthy(child: Child, address: str, folder: Path, authority: Path) -> None:
    """Wait until the SuperLink at `address` answers; raise ChildLost if it does not in time."""
    context = ssl.create_default_context(cafile=str(authority))
    headers = Hop(hop_secret(folder).read_text()).headers
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        child.check()
        with suppress(httpx.HTTPError):
            if httpx.get(f"https://{address}/health", verify=context, headers=headers, timeout=10).status_code == 200:
                return
        time.sleep(0.1)
    raise ChildLost(f"{address}: no SuperLink within {_START_SECONDS:.0f} s; see {child.log}")


@contextmanager
def connected_grid(
    address: str,
    folder: Path,
    authority: Path,
    nodes: Sequence[Site | Helper],
    verifications: Mapping[str, str],
) -> Iterator[tuple[TolerantGrid, Context]]:
    """Register the node keys of sites and helpers, start a run, and yield the grid and context of its ServerApp.

    `verifications` are sites' signatures of the app, which their SuperNodes look for.

    Raises
    ------
    ChildLost
        If the SuperLink stops answering, here or inside the context.
    """
    root, hop = authority.read_bytes(), Hop(hop_secret(folder).read_text())
    os.environ.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", FLWR_HOME=str(folder))
    try:
        with ControlHttpClient.from_server_address(address, False, root, [hop]) as control:
            for node in nodes:
                control.RegisterNode(RegisterNodeRequest(public_key=node_key_bytes(node), name=node.name))
            fab = Fab(app_hash(), app_bundle(), {})
            run_id = control.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id
        _verify_app(folder, verifications)
        token = _acquire_task(address, root, hop, (folder / "superexec.secret").read_bytes())
        grid = TolerantGrid(address, root, token, hop)
        # A SuperLink that is gone must surface here, to be started again, rather than be waited for.
        grid._retry_invoker.max_tries, grid._retry_invoker.max_time = 4, 10.0
        task = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        if task.run.run_id != run_id:
            raise ChildLost(f"{address}: another run ({task.run.run_id}) than ours ({run_id}) was handed to us")
        TaskIdentity.task_id, TaskIdentity.run_id = task.task_id, run_id
        TaskIdentity.node_id = task.context.node_id
        grid.set_run(run_from_proto(task.run))
        with _heartbeat(lambda: grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())):
            try:
                yield grid, context_from_proto(task.context)
            finally:
                grid.close()
    except httpx.HTTPError as error:
        raise ChildLost(f"{address}: {error or type(error).__name__}") from error


def node_key_bytes(node: Site | Helper) -> bytes:
    """Return the node key of a site or helper as Flower stores it.

    Raises
    ------
    FedcallError
        If the study's text is not a P-384 public key.
    """
    try:
        key = load_ssh_public_key(node.node_key.encode())
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FedcallError(f"'{node.name}': node_key is not an ECDSA public key in OpenSSH form")
    encoded: bytes = public_key_to_bytes(key)
    return encoded


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _verify_app(folder: Path, verifications: Mapping[str, str]) -> None:
    """Store signatures with the app; the Control API takes them only from Flower's own hub."""
    with sqlite3.connect(folder / "state.db", timeout=10) as database:
        found = database.execute(
            "UPDATE fab SET verifications = ? WHERE fab_hash = ?", (json.dumps(dict(verifications)), app_hash())
        )
        assert found.rowcount == 1, "Flower keeps its apps elsewhere than in flwr 1.41"
    database.close()


def _acquire_task(address: str, root: bytes, hop: Hop, secret: bytes) -> str:
    interceptors = [
        hop,
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
    raise ChildLost(f"{address}: the SuperLink offers no task for our run")


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
