"""Kills, cuts, stalls and a full disk, with real processes: the study ends with the very model of an undisturbed run.

FEDCALL_KILLS=all runs every process at every moment; the suite runs a few of each.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from consortium import Consortium, make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.operation import study_status
from fedcall.federation.site.visits import fetch_global
from fedcall.weights import read_weights
from misbehaving_proxy import Mischief, misbehaving_proxy
from service import Service, kill, processes, served, start, stop, wait_until_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]

SITES = ("north", "south")
MOMENTS = ("before the first fetch", "after a fetch", "during an upload", "after an upload", "after the round")
VICTIMS = ("superlink", "gate", "worker", "supervisor", "everything")
CASES = [(victim, moment) for victim in VICTIMS for moment in MOMENTS]
FEW = [("superlink", "during an upload"), ("everything", "after an upload")]


@pytest.fixture(scope="module")
def agreed(tmp_path_factory) -> Consortium:
    return make_consortium(tmp_path_factory.mktemp("agreed"), rounds=1)


def again(agreed: Consortium, folder: Path) -> Consortium:
    """Return the same study and keys in a folder of its own, so that runs can be compared."""
    shutil.copytree(agreed.folder, folder, dirs_exist_ok=True)
    return Consortium(folder, agreed.study)


@pytest.fixture(scope="module")
def undisturbed(agreed, tmp_path_factory) -> str:
    consortium = again(agreed, tmp_path_factory.mktemp("undisturbed"))
    with served(consortium) as service:
        return run(service, lambda moment: None)


def run(service: Service, disturb: Callable[[str], None], address: str | None = None) -> str:
    """Take both sites through the study; return the digest of the final model once the log counts each site once."""
    visitors = {site: service.visitor(site, address) for site in SITES}
    disturb("before the first fetch")
    models = {site: service.fetch(visitor, 1) for site, visitor in visitors.items()}
    disturb("after a fetch")
    disturb("during an upload")
    assert service.upload(visitors["north"], 1, models["north"]).status == "accepted"
    disturb("after an upload")
    assert service.upload(visitors["south"], 1, models["south"]).status == "accepted"
    disturb("after the round")
    finals = {service.fetch(visitor, 2).read_bytes() for visitor in visitors.values()}
    assert len(finals) == 1
    status = study_status(service.consortium.state)
    assert [(site["accepted_rounds"], site["refusals"]) for site in status["sites"]] == [(1, 0), (1, 0)]
    return read_weights(service.consortium.folder / "north.2.global.safetensors").digest


def strike(service: Service, victim: str) -> None:
    """Kill a process of the service; start the service again if its supervisor is gone, as systemd does."""
    found = processes(service)
    if victim == "everything":
        kill(*(found[name] for name in ("supervisor", "worker", "superlink", "gate")))
    else:
        kill(found[victim])
    if victim in ("everything", "supervisor"):
        service.process.wait(300)
        address = service.endpoint.address
        service.process = start(service.consortium, listen=address).process


@pytest.mark.parametrize(("victim", "moment"), CASES if os.environ.get("FEDCALL_KILLS") == "all" else FEW)
def test_kill__of_the_service(agreed, undisturbed, tmp_path, victim, moment):
    with restartable(again(agreed, tmp_path)) as service:

        def disturb(now: str) -> None:
            if now != moment:
                return
            if moment == "during an upload":
                threading.Timer(0.3, strike, [service, victim]).start()
            else:
                strike(service, victim)

        assert run(service, disturb, service.endpoint.address) == undisturbed


@contextmanager
def restartable(consortium: Consortium) -> Iterator[Service]:
    """As `served`, for a service whose process changes."""
    service = start(consortium)
    try:
        yield service
    finally:
        time.sleep(0.5)
        stop(service)


def test_kill__of_a_client_in_the_middle_of_its_upload(agreed, undisturbed, tmp_path):
    consortium = again(agreed, tmp_path)
    with served(consortium) as service:

        def disturb(now: str) -> None:
            if now != "during an upload":
                return
            update, claim = consortium.write_answer("north", 1, tmp_path / "north.1.global.safetensors", tmp_path)
            for seconds in (1.5, 2.5):
                client = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "fedcall", "upload", "--study", consortium.study_path),
                        *("--site", "north", "--keys", consortium.keys("north"), "--round", "1"),
                        *("--update", update, "--claim", claim, "--aggregator", service.endpoint.address),
                        *("--ca", service.ca, "--receipt", tmp_path / "never.json"),
                    ],
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(seconds)
                client.send_signal(signal.SIGKILL)
                client.wait()

        assert run(service, disturb) == undisturbed


def test_network__cuts_halves_and_stalls(agreed, undisturbed, tmp_path):
    mischief = Mischief()
    with (
        served(again(agreed, tmp_path)) as service,
        misbehaving_proxy(service.endpoint.address, mischief) as address,
    ):
        visitor = service.visitor
        # A node that was cut off is taken for online for 20 s.
        service.visitor = lambda site, _=None: _patient(visitor(site, address), 60)  # type: ignore[method-assign]

        def disturb(moment: str) -> None:
            if moment in ("before the first fetch", "during an upload"):
                mischief.cut_after_bytes.append(2500)
            elif moment == "after an upload":
                mischief.stall_after_bytes.append(3000)

        assert run(service, disturb) == undisturbed
    assert (mischief.cuts, mischief.stalls) == (2, 1)


@pytest.mark.parametrize("role", ["worker", "superlink", "gate"])
def test_aggregator__an_interrupt_that_is_not_the_operator_s(agreed, undisturbed, tmp_path, role):
    """Flower interrupts its own process once it has lost its run, after a machine was asleep; the study goes on."""
    with served(again(agreed, tmp_path)) as service:

        def disturb(moment: str) -> None:
            if moment == "after a fetch":
                os.kill(processes(service)[role], signal.SIGINT)

        assert run(service, disturb) == undisturbed
        assert service.process.poll() is None


@pytest.mark.parametrize(
    "roles", [("worker",), ("superlink",), ("gate",), ("supervisor", "worker", "superlink", "gate")]
)
def test_aggregator__paused(agreed, undisturbed, tmp_path, roles):
    """As by a suspended machine; FEDCALL_PAUSE_SECONDS=70 is longer than Flower waits for a heartbeat."""
    seconds = float(os.environ.get("FEDCALL_PAUSE_SECONDS", "2"))
    with served(again(agreed, tmp_path)) as service:

        def disturb(moment: str) -> None:
            if moment == "after a fetch":
                paused = [processes(service)[role] for role in roles]
                for pid in paused:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(seconds)
                for pid in paused:
                    os.kill(pid, signal.SIGCONT)

        assert run(service, disturb) == undisturbed
        assert service.process.poll() is None


def test_aggregator__away_for_a_while(agreed, undisturbed, tmp_path):
    seconds = float(os.environ.get("FEDCALL_AWAY_SECONDS", "4"))
    service = start(again(agreed, tmp_path))
    address = service.endpoint.address
    try:

        def disturb(moment: str) -> None:
            if moment == "after a fetch":
                assert stop(service) == 0

                def come_back() -> None:
                    time.sleep(seconds)
                    service.process = start(service.consortium, listen=address).process

                threading.Thread(target=come_back).start()

        visitor = service.visitor
        service.visitor = lambda site, _=None: _patient(visitor(site, address), seconds)  # type: ignore[method-assign]
        assert run(service, disturb) == undisturbed
    finally:
        stop(service)


def _patient(visitor, seconds: float):
    return type(visitor)(visitor.study, visitor.site, visitor.keys, visitor.locate, 600 + seconds, 600 + seconds)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=False).returncode == 0
    if not mounted:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_disk__full_refuses_and_resumes(agreed, undisturbed, small_disk):
    with served(again(agreed, small_disk)) as service:
        north, south = service.visitor("north"), service.visitor("south")
        model = service.fetch(north, 1)
        update, claim = service.consortium.write_answer("north", 1, model, small_disk)
        for spare in (8 * 2**20, 0):  # too little for an upload; nothing at all
            fill(small_disk / "filler", spare)
            hasty = type(north)(north.study, "north", north.keys, north.locate, 3, 0)
            with pytest.raises(FedcallError, match="nothing is lost"):
                service_upload(hasty, update, claim, small_disk.parent / "receipt.json")
            (small_disk / "filler").unlink()
        wait_until_up(service)
        assert service.upload(north, 1, model).status == "accepted"
        assert service.upload(south, 1, service.fetch(south, 1)).status == "accepted"
        final = small_disk.parent / "final.safetensors"
        fetch_global(north, 2, final)
        assert read_weights(final).digest == undisturbed
    log = [json.loads(line) for line in (service.consortium.state / "admission.jsonl").read_text().splitlines()]
    assert sum(line["entry"].get("status") == "accepted" for line in log) == 2


def service_upload(visitor, update: Path, claim: Path, receipt: Path) -> None:
    from fedcall.federation.site.visits import upload_update

    upload_update(visitor, 1, update, claim, receipt)


def fill(path: Path, spare_bytes: int) -> None:
    """Fill the disk that `path` lies on up to `spare_bytes`."""
    with open(path, "wb", buffering=0) as handle, suppress(OSError):
        while shutil.disk_usage(path.parent).free > spare_bytes:
            handle.write(bytes(min(2**20, shutil.disk_usage(path.parent).free - spare_bytes)))
