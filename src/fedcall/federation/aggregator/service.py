"""The aggregator: a supervisor, and in its worker a SuperLink, the gate before it, and our ServerApp.

It may be killed at any moment and started again: `state` takes up where it was. Whatever way a process of it
dies, its children die with it, and its parent starts it again.
"""

import errno
import fcntl
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.files import make_private_folder, write_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from fedcall.attestation.enclave import Enclave
    from fedcall.federation.aggregator.enclave import EnclaveKeys
    from fedcall.federation.aggregator.supervisor import Stop
    from fedcall.federation.certificates import Certificates
    from fedcall.federation.syft_jobs import SyftBox
    from fedcall.study.protection import Helper
    from fedcall.study.terms import Site, Study

log = logging.getLogger("fedcall.aggregator")

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
_RESTARTS = 5  # within the time below, before we give up
_RESTART_WINDOW_SECONDS = 300.0
_FULL_BYTES = 16 * 1024 * 1024  # of disk left: what goes wrong then is not the fault of a process
_FULL_SECONDS = 10.0
_BIND_SECONDS = 10.0  # for the gate of a killed aggregator to be gone


class Endpoint(Document):
    """Where a running aggregator is to be found; `STATE/endpoint.json`."""

    address: str = Field(description="HOST:PORT of the gate, as this machine reaches it.")
    listen: str = Field(description="HOST:PORT it listens at.")
    pid: int = Field(description="Process id of the supervisor.")
    ca: str = Field(description="Certificate of its authority, relative to the state folder.")
    study: str = Field(description="Digest of the study it serves.")


@dataclass(frozen=True)
class ServeOptions:
    """What `fedcall aggregator serve` was asked for.

    `names` are what sites call this machine, for its certificate; `certificate` and its key replace that certificate.
    `pins` are the approvals of our app by sites that run it in a stock SuperNode. `drops` are folders in which sites
    leave sealed requests; `syft` is the coordinator's PySyft folder, `datasites` the emails of sites' datasites there.
    `enclave` is the machine of a sealed study (`fedcall.attestation.enclave.open_enclave`).
    """

    study: Path
    state: Path
    listen: str
    keys: Path
    initial: Path
    idle_minutes: float | None = None
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    pins: tuple[Path, ...] = ()
    drops: tuple[Path, ...] = ()
    syft: "SyftBox | None" = None
    datasites: Mapping[str, str] = field(default_factory=dict)
    enclave: "Enclave | None" = None


def serve(options: ServeOptions) -> None:
    """Serve a study until SIGTERM, or with `idle_minutes` until nobody has talked for long or it is done.

    Raises
    ------
    FedcallError
        If the options do not fit together, or another aggregator holds the state folder.
    """
    from fedcall.federation.aggregator.supervisor import supervise
    from fedcall.keys import read_signing_key
    from fedcall.study.terms import read_study

    host, port = parse_listen(options.listen)
    if (options.certificate is None) != (options.certificate_key is None):
        raise FedcallError("--tls-certificate and --tls-key belong together; give both or neither")
    if host in _ANYWHERE and not options.names and options.certificate is None:
        raise FedcallError(
            f"--listen {options.listen}: by which name do the sites reach this machine? It goes into the certificate:"
            " give --name NAME, or a certificate of your own with --tls-certificate and --tls-key"
        )
    for folder in options.drops:
        if not folder.is_dir():
            raise FedcallError(f"--drop {folder}: no such folder; make it, or mount what carries it")
    study, key = read_study(options.study), read_signing_key(options.keys)
    if options.syft is not None:
        from fedcall.federation.syft_jobs import require_syft

        require_syft()
    for site in options.datasites:
        study.site(site)
    _check_enclave(options, study)
    with holding(options.state):
        supervise(lambda stop: _work(options, study, key, host, port, stop))
        (options.state / "endpoint.json").unlink(missing_ok=True)
    log.info("stopped; the state is kept in %s", options.state)


def parse_listen(listen: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; an IPv6 address is in brackets."""
    host, separator, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise FedcallError(f"--listen {listen!r}: HOST:PORT expected, for example 127.0.0.1:0 for any free port")
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
    make_private_folder(state)
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


def _work(options: ServeOptions, study: "Study", key: "Ed25519PrivateKey", host: str, port: int, stop: "Stop") -> None:
    from fedcall.federation.certificates import ensure_certificates, given_certificates
    from fedcall.federation.child import ChildLost

    inside = ensure_certificates(options.state, (*(() if host in _ANYWHERE else (host,)), *options.names))
    outside = given_certificates(inside, options.certificate, options.certificate_key)
    previous = read_endpoint(options.state)
    failures: list[float] = []
    with _listening(host, port, int(previous.address.rpartition(":")[2]) if previous else 0) as listener:
        while not stop.is_set():
            try:
                _serve_once(options, study, key, inside, outside, listener, stop)
                return
            except (ChildLost, OSError) as lost:
                if shutil.disk_usage(options.state).free < _FULL_BYTES:
                    log.error("%s: the disk is full; waiting for space", options.state)
                    stop.wait(_FULL_SECONDS)
                    continue
                if not isinstance(lost, ChildLost):
                    raise
                failures = [at for at in failures if time.monotonic() - at < _RESTART_WINDOW_SECONDS]
                failures.append(time.monotonic())
                if len(failures) >= _RESTARTS:
                    raise FedcallError(f"{lost}; gave up after {_RESTARTS} starts; see {options.state}") from None
                log.warning("%s; starting it again", lost)


def _serve_once(
    options: ServeOptions,
    study: "Study",
    key: "Ed25519PrivateKey",
    inside: "Certificates",
    outside: "Certificates",
    listener: socket.socket,
    stop: "Stop",
) -> None:
    import base64

    from fedcall.federation.aggregator.admission import MAX_CLAIM_BYTES
    from fedcall.federation.aggregator.datasites import Datasites
    from fedcall.federation.aggregator.drops import Drops
    from fedcall.federation.aggregator.server_app import make_app
    from fedcall.federation.aggregator.state import StudyState
    from fedcall.federation.child import ChildLost
    from fedcall.federation.flower.app_bundle import app_hash, read_pins
    from fedcall.federation.flower.gate import GateOptions, gate
    from fedcall.federation.flower.superlink import (
        connected_grid,
        free_port,
        hop_secret,
        node_key_bytes,
        superlink,
        wait_until_healthy,
    )
    from fedcall.protection.sealed_upload import OVERHEAD_BYTES

    state = StudyState(options.state, study, key, options.initial, _enclave_keys(options, study, outside))
    verifications = read_pins(options.pins)
    folder = Path(options.state) / "superlink"
    nodes: tuple[Site | Helper, ...] = (*study.sites, *study.protection.helpers)
    node_keys = {node_key_bytes(node): node.name for node in nodes}
    idle = None if options.idle_minutes is None else 60 * options.idle_minutes
    port = free_port()
    address = f"127.0.0.1:{port}"
    # An update is no larger than its model, unless it is encrypted.
    upload_bytes = max(state.model_path(1).stat().st_size, state.max_update_bytes) + MAX_CLAIM_BYTES + OVERHEAD_BYTES
    folders = (
        Drops(state, options.drops, key, upload_bytes),
        Datasites(state, options.study.read_bytes(), options.syft, options.datasites, upload_bytes),
    )
    gate_options = GateOptions(
        upstream=address,
        authority=str(inside.authority.resolve()),
        certificate=str(outside.server.resolve()),
        certificate_key=str(outside.server_key.resolve()),
        node_keys=tuple(base64.b64encode(key).decode() for key in node_keys),
        upload_bytes=upload_bytes,
        state=str(Path(options.state).resolve()),
        hop=str(hop_secret(folder)),
    )
    with superlink(folder, inside, port) as link, gate(gate_options, listener) as door:
        state.prepare()  # while Flower starts
        wait_until_healthy(link, address, folder, inside.authority)

        def should_stop() -> bool:
            link.check()
            door.check()
            if stop.interrupted.is_set():
                stop.interrupted.clear()
                raise ChildLost("Flower gave up its run, as it does after a machine was asleep")
            return stop.is_set()

        with connected_grid(address, folder, inside.authority, nodes, verifications) as (grid, context):
            endpoint = _endpoint(options, listener, inside, study)
            write_bytes(Path(options.state) / "endpoint.json", endpoint.canonical())
            log.info("study '%s' is served at %s; %s", study.name, endpoint.listen, state.progress)
            log.info("app for stock SuperNodes: %s", app_hash())
            make_app(state, node_keys, idle, should_stop, folders)(grid, context)


def _check_enclave(options: ServeOptions, study: "Study") -> None:
    """Refuse a sealed study outside of an enclave, another inside one, and ways that cannot carry evidence."""
    is_sealed = study.protection.mode == "sealed"
    if is_sealed and options.enclave is None:
        raise FedcallError(
            f"study '{study.name}' is sealed: serve it inside an enclave, with --enclave sev-snp, sgx, or, in a"
            " rehearsal, simulated:FOLDER"
        )
    if options.enclave is not None and not is_sealed:
        raise FedcallError(
            f"--enclave: study '{study.name}' has protection mode '{study.protection.mode}', so its sites seal nothing"
        )
    if is_sealed and options.syft is not None:
        raise FedcallError("--syft: jobs of data carry no question, so a site cannot ask for evidence; use another way")


def _enclave_keys(options: ServeOptions, study: "Study", outside: "Certificates") -> "EnclaveKeys | None":
    """Return the keys of this enclave, after its own evidence was verified; None for a study that is not sealed."""
    if options.enclave is None:
        return None
    from cryptography import x509

    from fedcall.attestation.certificates import key_digest
    from fedcall.federation.aggregator.enclave import EnclaveKeys

    certificate = x509.load_pem_x509_certificate(outside.server.read_bytes())
    keys = EnclaveKeys(options.enclave, study, key_digest(certificate))
    verdict = keys.check()
    log.info("sealed: %s, %s, image %s", verdict.platform, verdict.details, verdict.measurement)
    return keys


def _endpoint(options: ServeOptions, listener: socket.socket, inside: "Certificates", study: "Study") -> Endpoint:
    host, port = parse_listen(options.listen)[0], listener.getsockname()[1]
    written = f"[{host}]" if ":" in host else host
    return Endpoint(
        address=f"{_ANYWHERE.get(host, written)}:{port}",
        listen=f"{written}:{port}",
        pid=os.getppid(),
        ca=str(inside.authority.relative_to(options.state)),
        study=study.digest,
    )


@contextmanager
def _listening(host: str, port: int, preferred: int) -> Iterator[socket.socket]:
    """Listen at the port, or at the preferred one or any if it is 0; connections queue up until the gate is there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = time.monotonic() + _BIND_SECONDS
    while True:
        try:
            listener = socket.create_server((host, port or preferred), family=family, backlog=512)
            break
        except OSError as error:
            if port == 0 and preferred:
                preferred = 0
            elif error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise FedcallError(f"--listen {host}:{port}: {error.strerror or error}") from None
            else:
                time.sleep(0.2)
    with listener:
        yield listener
