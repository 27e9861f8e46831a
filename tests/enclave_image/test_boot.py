"""The whole image, booted in QEMU's software emulation, with the simulated machine: one round of a sealed study.

It needs an image of this very fedcall (`make enclave-trial`); without one, and without QEMU, it is skipped.
"""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fedcall.enclave_image.recipe import own_digest
from fedcall.federation.site.visits import Place, Visitor, fetch_global, upload_update
from fedcall.study.evidence_exchange import read_record, record_folder
from fedcall.weights import read_weights
from sealed_consortium import make_sealed_consortium

IMAGE = Path(__file__).parents[2] / "results" / "enclave-trial"
SECONDS = 1500  # a bound on what hangs: emulation on a busy machine


def _why_not() -> str:
    if shutil.which("qemu-system-x86_64") is None:
        return "no qemu-system-x86_64"
    if not (IMAGE / "contents.json").is_file():
        return "no image: make enclave-trial"
    if json.loads((IMAGE / "contents.json").read_text())["fedcall"] != own_digest():
        return "the image is of another fedcall: make enclave-trial"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _boot(lent: Path, ports: dict[int, int], log: Path) -> subprocess.Popen[bytes]:
    forwarded = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ports.items())
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-cpu", "max", "-m", "1536", "-nodefaults"),
        *(
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
            "-kernel",
            IMAGE / "vmlinuz",
            "-initrd",
            IMAGE / "initrd.img",
        ),
        *("-append", (IMAGE / "cmdline").read_text(), "-netdev", f"user,id=n,restrict=on{forwarded}"),
        *("-device", "virtio-net-pci,netdev=n,romfile=", "-fsdev", f"local,id=f,path={lent},security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=f,mount_tag=fedcall"),
    ]
    with open(log, "wb") as console:
        return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=console, stderr=console)


@pytest.fixture
def lent(tmp_path):
    """What the host lends the machine: the folder of a consortium of two sites, in the image's layout."""
    folder = tmp_path / "lent"
    folder.mkdir()
    consortium = make_sealed_consortium(folder, rounds=1, patients={"east": 20, "north": 40})
    shutil.copytree(consortium.keys("coordinator"), folder / "keys", dirs_exist_ok=True)
    told = {"address": "10.0.2.15/24", "gateway": "10.0.2.2", "port": 8443, "names": ["localhost"]}
    (folder / "machine.json").write_text(json.dumps(told))
    return consortium


@pytest.mark.slow
@pytest.mark.skipif(bool(_why_not()), reason=_why_not())
def test_boot__one_round_of_a_sealed_study_inside_the_image(lent, tmp_path):
    here, logins = _free_port(), _free_port()
    console = tmp_path / "console.log"
    machine = _boot(lent.folder, {here: 8443, logins: 22}, console)
    try:
        authority = lent.folder / "state" / "ca.crt"
        end = time.monotonic() + SECONDS
        while "is served at" not in console.read_text(errors="replace"):
            assert machine.poll() is None, console.read_text(errors="replace")[-2000:]
            assert time.monotonic() < end, console.read_text(errors="replace")[-2000:]
            time.sleep(0.5)
        with socket.create_connection(("127.0.0.1", logins), timeout=60) as knocked:
            assert knocked.recv(1) == b"", "nothing listens at the port of logins"
        for site in ("east", "north"):
            place = Place(f"127.0.0.1:{here}", authority)
            visitor = Visitor(lent.study, site, lent.keys(site), lambda place=place: place, SECONDS, SECONDS)
            model = tmp_path / f"{site}.1.safetensors"
            fetch_global(visitor, 1, model)
            update, claim = lent.write_answer(site, 1, model, tmp_path)
            receipt = tmp_path / f"{site}.receipt.json"
            assert upload_update(visitor, 1, update, claim, receipt).status == "accepted"
            record = read_record(record_folder(receipt))
            assert (record.site, record.round, record.tls_seen) == (site, 1, True)
        final = tmp_path / "final.safetensors"
        fetch_global(visitor, 2, final)
    finally:
        machine.kill()
        machine.wait()
    assert read_weights(final).digest != read_weights(lent.initial).digest
    assert len(list(lent.folder.rglob("accepted/*.sealed"))) == 2
    assert list(lent.folder.rglob("accepted/*.safetensors")) == [], "no single update lies open on the host"
