"""The aggregator's one process: a SuperLink as its child, our ServerApp inside, all state in one folder.

It may be killed at any moment and started again: `study_state` takes up where it was. Whatever way it dies, its child
dies with it.
"""

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.files import write_bytes

if TYPE_CHECKING:
    from fedcall.federation.certificates import Certificates
    from fedcall.federation.study_state import StudyState

log = logging.getLogger("fedcall.aggregator")

_LOOPBACK = ("127.0.0.1", "localhost")
_RESTARTS = 5  # within the time below, before we give up
_RESTART_WINDOW_SECONDS = 300.0

_PROXY_ADVICE = """\
--listen {listen}: the aggregator itself listens on loopback only, because Flower's one port also carries the Control \
and Runtime APIs, which must never be reachable; give --listen 127.0.0.1:PORT and put a reverse proxy in front that \
passes /v1/fleet/ and nothing else, for example nginx: server {{ listen {port} ssl; ssl_certificate …; \
ssl_certificate_key …; client_max_body_size 16m; proxy_ssl_trusted_certificate STATE/ca.crt; proxy_ssl_verify on; \
proxy_ssl_name localhost; location /v1/fleet/ {{ proxy_pass https://127.0.0.1:PORT; proxy_http_version 1.1; \
proxy_set_header Connection ""; }} location / {{ return 403; }} }}"""


class Endpoint(Document):
    """Where a running aggregator is to be found; `STATE/endpoint.json`."""

    address: str = Field(description="HOST:PORT of the Fleet API.")
    pid: int
    ca: str = Field(description="Certificate of its authority, relative to the state folder.")
    study: str = Field(description="Digest of the study it serves.")


@dataclass(frozen=True)
class ServeOptions:
    """What `fedcall aggregator serve` was asked for."""

    study: Path
    state: Path
    listen: str
    keys: Path
    initial: Path
    idle_minutes: float | None = None


def serve(options: ServeOptions) -> None:
    """Serve a study until SIGTERM, or with `idle_minutes` until nobody has talked for long or it is done.

    Raises
    ------
    FedcallError
        If the options do not fit together, or another aggregator holds the state folder.
    """
    host, port = parse_listen(options.listen)

    from fedcall.federation.certificates import ensure_certificates
    from fedcall.federation.study import read_study
    from fedcall.federation.study_state import StudyState
    from fedcall.federation.superlink import SuperLinkLost, free_port, node_key_bytes
    from fedcall.keys import read_signing_key

    study = read_study(options.study)
    for site in study.sites:
        node_key_bytes(site)
    stop = _stop_on_signals()
    with holding(options.state):
        state = StudyState(options.state, study, read_signing_key(options.keys), options.initial)
        certificates = ensure_certificates(options.state, host)
        previous = read_endpoint(options.state)
        preferred = port or (int(previous.address.rpartition(":")[2]) if previous else 0)
        failures: list[float] = []
        while not stop.is_set():
            chosen = port or free_port(preferred)
            try:
                _serve_once(options, state, certificates, chosen, stop)
                break
            except SuperLinkLost as lost:
                failures = [at for at in failures if time.monotonic() - at < _RESTART_WINDOW_SECONDS]
                failures.append(time.monotonic())
                if len(failures) >= _RESTARTS:
                    raise FedcallError(f"{lost}; gave up after {_RESTARTS} starts; see {options.state}") from None
                log.warning("%s; starting it again", lost)
        (options.state / "endpoint.json").unlink(missing_ok=True)
        log.info("stopped; the state is kept in %s", options.state)


def parse_listen(listen: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; only loopback hosts are allowed."""
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise FedcallError(f"--listen {listen!r}: HOST:PORT expected, for example 127.0.0.1:0 for any free port")
    if host not in _LOOPBACK:
        raise FedcallError(_PROXY_ADVICE.format(listen=listen, port=port if port != "0" else "443"))
    return host, int(port)


def read_endpoint(state: Path) -> Endpoint | None:
    """Return the last known endpoint of the aggregator of a state folder; it may be gone."""
    try:
        return Endpoint.model_validate_json((Path(state) / "endpoint.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def is_held(state: Path) -> bool:
    """Say whether a living aggregator holds the state folder."""
    path = Path(state) / "serving.lock"
    if not path.exists():
        return False
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def holding(state: Path) -> Iterator[None]:
    """Hold the state folder for this process; the kernel lets go when the process dies.

    Raises
    ------
    FedcallError
        If another process holds it.
    """
    state = Path(state)
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "serving.lock", "a") as handle:
        for attempt in range(20):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 19:
                    raise FedcallError(f"{state}: another aggregator is serving this state; stop it first") from None
                time.sleep(0.1)  # somebody may only be looking whether it is held
        yield


def _serve_once(
    options: ServeOptions, state: "StudyState", certificates: "Certificates", port: int, stop: threading.Event
) -> None:
    from fedcall.federation.server_app import make_app
    from fedcall.federation.superlink import connected_grid, node_key_bytes, superlink

    folder = Path(options.state) / "superlink"
    node_keys = {node_key_bytes(site): site.name for site in state.study.sites}
    idle = None if options.idle_minutes is None else 60 * options.idle_minutes
    with (
        superlink(folder, certificates, port) as address,
        connected_grid(address, folder, certificates.authority, state.study.sites) as (grid, context),
    ):
        endpoint = Endpoint(
            address=address,
            pid=os.getpid(),
            ca=str(certificates.authority.relative_to(options.state)),
            study=state.study.digest,
        )
        write_bytes(Path(options.state) / "endpoint.json", endpoint.canonical())
        log.info("study '%s' is served at %s; %s", state.study.name, address, state.progress)
        make_app(state, node_keys, idle, stop.is_set)(grid, context)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
