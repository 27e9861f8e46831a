"""The first and only program that the image's kernel starts: it mounts, brings up the network, and runs the aggregator.

There is no shell, no login and no other service. What the machine is told comes from two places:

- the command line, which is measured: `fedcall.enclave=KIND` names the kind of machine (`sev-snp`; `simulated` in a
  trial, whose measurement is another one);
- the folder that the host lends (9p, tag `fedcall`), which is *not* measured and which the host can change: the signed
  study, the coordinator's keys, the first model, endorsements, the aggregator's state, and `machine.json`: address,
  gateway, port, and names for the certificate. None of it decides what is kept secret: evidence is bound to the study.

Only the standard library is used, so that a missing package is said on the console.
"""

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MODULES = Path("/usr/lib/modules")
LENT = Path("/lent")
TAG = "fedcall"
_MOUNTS = (  # source, target, kind, flags, data: mount(2)
    ("proc", "/proc", "proc", 0xE, ""),
    ("sysfs", "/sys", "sysfs", 0xE, ""),
    ("devtmpfs", "/dev", "devtmpfs", 0xA, ""),
    ("tmpfs", "/dev/shm", "tmpfs", 0xE, "mode=1777"),
    ("tmpfs", "/tmp", "tmpfs", 0xE, "mode=1777"),
)
_LENT_MOUNTS = (
    ("configfs", "/sys/kernel/config", "configfs", 0xE, ""),
    (TAG, str(LENT), "9p", 0xE, "trans=virtio,version=9p2000.L,cache=mmap,msize=262144"),
)
_FINIT_MODULE = 313  # x86-64
_SIOCADDRT, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS = 0x890B, 0x8916, 0x891C, 0x8914
_POWER_OFF = 0x4321FEDC  # reboot(2)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_KINDS = ("sev-snp", "simulated")
_TRIES = 3


class Unfit(Exception):  # noqa: N818
    """The machine cannot run the aggregator; the message goes to the console."""


@dataclass(frozen=True)
class Machine:
    """What `machine.json` tells: an IPv4 address with the length of its net, a gateway, a port, and names."""

    address: str
    net_bits: int
    gateway: str
    port: int
    names: tuple[str, ...]


def main() -> None:
    """Start the machine, run the aggregator until it ends, and switch off."""
    os.environ.update(PATH="/usr/bin", HOME="/tmp", TMPDIR="/tmp", LANG="C.UTF-8", PYTHONDONTWRITEBYTECODE="1")
    try:
        _mount(_MOUNTS)
        _load_modules()
        _mount(_LENT_MOUNTS)
        kind = read_kind(Path("/proc/cmdline").read_text())
        machine = read_machine(LENT / "machine.json")
        _connect(machine)
        _say(f"serving at {machine.address}:{machine.port}")
        _run(command(kind, machine))
    except (Unfit, OSError) as error:
        _say(f"stopped: {error}")
    os.sync()
    ctypes.CDLL(None).reboot(ctypes.c_int(_POWER_OFF))


def read_kind(command_line: str) -> str:
    """Return the kind of machine that the kernel's command line names; exactly one."""
    kinds = [word.partition("=")[2] for word in command_line.split() if word.startswith("fedcall.enclave=")]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise Unfit(f"the command line names {kinds or 'no kind of machine'}; fedcall.enclave=sev-snp expected")
    return kinds[0]


def read_machine(path: Path) -> Machine:
    """Read `machine.json`; whatever is written otherwise stops the machine."""
    try:
        told = json.loads(path.read_text())
        address, slash, bits = told["address"].partition("/")
        machine = Machine(address, int(bits or 0), told["gateway"], int(told["port"]), tuple(told["names"]))
        socket.inet_aton(machine.address)
        socket.inet_aton(machine.gateway)
        fits = slash and 0 < machine.net_bits <= 32 and 0 < machine.port < 65536 and machine.names
        fits = fits and all(_NAME.fullmatch(name) for name in machine.names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unfit(f"{path}: {type(error).__name__}: {error}") from None
    if not fits:
        raise Unfit(f"{path}: address A.B.C.D/BITS, gateway, port and at least one name expected")
    return machine


def command(kind: str, machine: Machine) -> list[str]:
    """Return the command that serves the study of the lent folder."""
    enclave = f"simulated:{LENT / 'machine'}" if kind == "simulated" else kind
    words = [sys.executable, "-I", "-m", "fedcall", "aggregator", "serve", "--enclave", enclave]
    words += ["--study", str(LENT / "study.json"), "--keys", str(LENT / "keys")]
    words += ["--initial", str(LENT / "initial.safetensors"), "--state", str(LENT / "state")]
    words += ["--listen", f"0.0.0.0:{machine.port}", "--name", machine.address]
    words += [word for name in machine.names for word in ("--name", name)]
    endorsements = LENT / "endorsements"
    return words + (["--endorsements", str(endorsements)] if endorsements.is_dir() else [])


def _mount(mounts: tuple[tuple[str, str, str, int, str], ...]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for source, target, kind, flags, data in mounts:
        if not Path("/sys/kernel/config").is_dir() and kind == "configfs":
            continue
        Path(target).mkdir(parents=True, exist_ok=True)
        if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()):
            raise Unfit(f"{target}: cannot be mounted from {source} ({os.strerror(ctypes.get_errno())})")


def _load_modules() -> None:
    """Load the kernel's modules in the order of the list; the SEV driver finds no device in a trial."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in (MODULES / "order").read_text().split():
        with open(MODULES / f"{name}.ko", "rb") as module:
            if libc.syscall(_FINIT_MODULE, module.fileno(), b"", 0):
                _say(f"module {name}: {os.strerror(ctypes.get_errno())}")


def _connect(machine: Machine) -> None:
    """Give the loopback and the first card their addresses, and the card a gateway (netdevice(7))."""
    cards = sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo")
    if not cards:
        raise Unfit("the machine has no network card (virtio)")
    mask = socket.inet_ntoa(struct.pack(">I", 0xFFFFFFFF << (32 - machine.net_bits) & 0xFFFFFFFF))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for card, address, net in (("lo", "127.0.0.1", "255.0.0.0"), (cards[0], machine.address, mask)):
            name = card.encode().ljust(16, b"\0")
            fcntl.ioctl(handle, _SIOCSIFADDR, name + _socket_address(address) + bytes(8))
            fcntl.ioctl(handle, _SIOCSIFNETMASK, name + _socket_address(net) + bytes(8))
            fcntl.ioctl(handle, _SIOCSIFFLAGS, name + struct.pack("<H22x", 0x41))  # IFF_UP, IFF_RUNNING
        anywhere = _socket_address("0.0.0.0")
        route = struct.pack("<Q", 0) + anywhere + _socket_address(machine.gateway) + anywhere
        # struct rtentry: destination, gateway, mask, then RTF_UP and RTF_GATEWAY.
        fcntl.ioctl(handle, _SIOCADDRT, route + struct.pack("<H", 0x3).ljust(64, b"\0"))
    socket.sethostname("fedcall")


def _socket_address(address: str) -> bytes:
    return struct.pack("<HH", socket.AF_INET, 0) + socket.inet_aton(address) + bytes(8)


def _run(words: list[str]) -> None:
    """Run the aggregator, a few times if it fails; reap whatever is left to this process."""
    for attempt in range(1, _TRIES + 1):
        child = subprocess.Popen(words, cwd="/tmp", stdin=subprocess.DEVNULL)
        signal.signal(signal.SIGTERM, lambda *_, child=child: child.terminate())
        while True:
            pid, status = os.wait()
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                break
        _say(f"the aggregator ended with exit code {child.returncode}")
        if child.returncode in (0, 2, 3):  # done, a mistake in what was lent, or refused: starting again helps nobody
            return
        time.sleep(attempt)


def _say(text: str) -> None:
    print(f"fedcall image: {text}", flush=True)


if __name__ == "__main__":
    main()
