"""The machine that a program runs on, as an enclave: it gives evidence, and a secret that no other program gets.

| name | evidence | secret |
|---|---|---|
| `sev-snp` | configfs-tsm, or `/dev/sev-guest` on kernels before 6.7 | key derived by the chip from image and policy |
| `sgx` | Gramine's `/dev/attestation/quote` | Gramine's `_sgx_mrenclave` |
| `simulated` | a report signed by a key in a folder | a file of that folder and the measurement, mixed |

Intel TDX gives a trust domain evidence and no key that would come back after a restart, so it cannot hold state.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.attestation import sev_guest
from fedcall.attestation.evidence import Evidence
from fedcall.attestation.policy import EvidencePolicy, SimulatedPolicy
from fedcall.attestation.providers import (
    GRAMINE_FOLDER,
    TSM_FOLDER,
    from_gramine,
    from_sev_guest,
    from_simulation,
    from_tsm,
    read_endorsements,
)
from fedcall.attestation.simulated import root_digest
from fedcall.documents import public_text
from fedcall.errors import FedcallError
from fedcall.files import make_private_folder
from fedcall.keys import read_private, write_private

KINDS = ("sev-snp", "sgx", "simulated:FOLDER")


class Enclave(Protocol):
    """What an aggregator asks of the machine it runs on."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Return evidence bound to 64 bytes."""

    def secret(self) -> bytes:
        """Return bytes that this image gets on this machine, always the same, and no other image gets."""


@dataclass(frozen=True)
class SnpEnclave:
    """A guest of AMD SEV-SNP; `endorsements` vouch for the chip's key where the host hands nothing over."""

    endorsements: Mapping[str, bytes] = field(default_factory=dict)
    device: Path = sev_guest.DEVICE
    tsm: Path = TSM_FOLDER

    def evidence(self, report_data: bytes) -> Evidence:
        """Ask configfs-tsm where the kernel has it, and the older device where it has not."""
        if self.tsm.is_dir():
            return from_tsm(report_data, self.endorsements, self.tsm)
        return from_sev_guest(report_data, self.endorsements, self.device)

    def secret(self) -> bytes:
        """Return the key that the chip derives."""
        return sev_guest.derived_key(self.device)


@dataclass(frozen=True)
class SgxEnclave:
    """A program under Gramine in SGX."""

    endorsements: Mapping[str, bytes] = field(default_factory=dict)
    folder: Path = GRAMINE_FOLDER

    def evidence(self, report_data: bytes) -> Evidence:
        """Ask Gramine for a quote."""
        return from_gramine(report_data, self.endorsements, self.folder)

    def secret(self) -> bytes:
        """Return the key that follows from the processor and MRENCLAVE."""
        path = self.folder / "keys" / "_sgx_mrenclave"
        try:
            key = path.read_bytes()
        except OSError as error:
            raise FedcallError(f"{path}: Gramine gives no sealing key ({error.strerror})") from None
        if len(key) < 16 or not any(key):
            raise FedcallError(f"{path}: no key ({len(key)} bytes)")
        return key


@dataclass(frozen=True)
class SimulatedEnclave:
    """A folder that plays a machine: `root.key` signs evidence, `secret` stands for the chip's, `measurement` is run.

    It protects nothing: whoever reads the folder is the machine.
    """

    root: Ed25519PrivateKey
    chip_secret: bytes
    measurement: bytes

    def evidence(self, report_data: bytes) -> Evidence:
        """Return a report signed by the simulated root."""
        return from_simulation(report_data, self.root, self.measurement)

    def secret(self) -> bytes:
        """Return what follows from the machine's secret and what runs on it."""
        return hmac.digest(self.chip_secret, b"fedcall simulated enclave\0" + self.measurement, "sha256")

    @property
    def policy(self) -> EvidencePolicy:
        """The policy that accepts this machine and what runs on it, and nothing else."""
        root = root_digest(public_text(self.root.public_key()))
        return EvidencePolicy(simulated=SimulatedPolicy(root=root, measurements=(self.measurement.hex(),)))


def open_enclave(kind: str, endorsements: Path | None = None) -> Enclave:
    """Return the machine that `--enclave KIND` names; KIND is one of `KINDS`."""
    if kind == "sev-snp":
        return SnpEnclave(read_endorsements(endorsements))
    if kind == "sgx":
        return SgxEnclave(read_endorsements(endorsements))
    name, separator, folder = kind.partition(":")
    if name == "simulated" and separator and folder:
        return read_simulated(Path(folder))
    raise FedcallError(f"--enclave {kind}: one of {', '.join(KINDS)} expected")


def create_simulated(folder: Path) -> SimulatedEnclave:
    """Make a simulated machine in a folder, or return the one that is there."""
    folder = Path(folder)
    if not (folder / "measurement").exists():
        make_private_folder(folder)
        root = Ed25519PrivateKey.generate()
        form = serialization.PrivateFormat.PKCS8
        write_private(
            folder / "root.key", root.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )
        write_private(folder / "secret", secrets.token_bytes(32))
        image = hashlib.sha384(b"fedcall simulated image\0" + secrets.token_bytes(32))
        write_private(folder / "measurement", image.hexdigest().encode())  # last: with it the machine is whole
    return read_simulated(folder)


def read_simulated(folder: Path) -> SimulatedEnclave:
    """Read a simulated machine."""
    folder = Path(folder)
    if not (folder / "measurement").is_file():
        raise FedcallError(f"{folder}: no simulated machine; make one with 'fedcall attestation simulate'")
    try:
        root = serialization.load_pem_private_key(read_private(folder / "root.key"), password=None)
        measurement = bytes.fromhex(read_private(folder / "measurement").decode())
    except ValueError:
        root, measurement = None, b""
    if not isinstance(root, Ed25519PrivateKey) or len(measurement) != 48:
        raise FedcallError(
            f"{folder}: not a simulated machine; move it away, and make one with 'fedcall attestation simulate'"
        )
    return SimulatedEnclave(root, read_private(folder / "secret"), measurement)
