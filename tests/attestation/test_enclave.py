"""The machine an aggregator runs on: what it asks the kernel, and whose secret comes back."""

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from fedcall.attestation import sev_guest
from fedcall.attestation.enclave import (
    SgxEnclave,
    SimulatedEnclave,
    SnpEnclave,
    create_simulated,
    open_enclave,
    read_simulated,
)
from fedcall.attestation.evidence import verify_evidence
from fedcall.errors import FedcallError
from real_evidence import SNP_TIME, snp_evidence, snp_policy, snp_report_data

DATA = bytes(range(64))


class FakeFirmware:
    """Answers the requests of `/dev/sev-guest` as the kernel does: reads and writes the caller's memory."""

    def __init__(self, report: bytes, status: int = 0, failure: int = 0) -> None:
        self.report, self.status, self.failure = report, status, failure
        self.asked: list[bytes] = []

    def __call__(self, handle: object, call: int, wish: bytearray, mutate: bool) -> int:
        version, request, answer, _ = struct.unpack("<B7xQQQ", wish)
        assert version == 1
        if self.failure:
            struct.pack_into("<Q", wish, 24, 0x16)
            raise OSError(self.failure, os.strerror(self.failure))
        if call == 0xC0205300:  # _IOWR('S', 0, struct snp_guest_request_ioctl)
            asked = ctypes.string_at(request, 96)
            content = struct.pack("<II24x", self.status, len(self.report)) + self.report
        else:
            assert call == 0xC0205301
            asked = ctypes.string_at(request, 32)
            fields = struct.unpack("<IIQIIQ", asked)
            key = bytes([fields[2]]) * 32 if self.report else bytes(32)
            content = struct.pack("<I28x", self.status) + key
        self.asked.append(asked)
        ctypes.memmove(answer, content, len(content))
        return 0


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "sev-guest").touch()
    return tmp_path / "sev-guest"


def test_snp_enclave__an_older_kernel_gives_a_report_by_its_device(device, tmp_path, monkeypatch):
    real = snp_evidence("oak_genoa_v5")
    firmware = FakeFirmware(real.files["report.bin"])
    monkeypatch.setattr(fcntl, "ioctl", firmware)
    endorsements = {name: content for name, content in real.files.items() if name != "report.bin"}
    evidence = SnpEnclave(endorsements, device, tmp_path / "no tsm").evidence(DATA)
    assert firmware.asked == [DATA + bytes(32)]
    assert evidence == real
    verify_evidence(evidence, snp_policy(evidence), snp_report_data(evidence), SNP_TIME)


def test_snp_enclave__the_secret_follows_from_policy_and_measurement(device, monkeypatch):
    firmware = FakeFirmware(b"report")
    monkeypatch.setattr(fcntl, "ioctl", firmware)
    assert SnpEnclave(device=device).secret() == bytes([0b1001]) * 32
    root_key, _, mixed, vmpl, svn, tcb = struct.unpack("<IIQIIQ", firmware.asked[0])
    assert (root_key, mixed, vmpl, svn, tcb) == (0, 0b1001, 0, 0, 0)


def test_snp_enclave__what_the_firmware_refuses_is_said(device, monkeypatch):
    monkeypatch.setattr(fcntl, "ioctl", FakeFirmware(b"", status=0x16))
    with pytest.raises(FedcallError, match=r"no report .status 0x16"):
        sev_guest.report(DATA, device)
    with pytest.raises(FedcallError, match=r"no derived key .status 0x16"):
        sev_guest.derived_key(device)
    monkeypatch.setattr(fcntl, "ioctl", FakeFirmware(b""))
    with pytest.raises(FedcallError, match="no derived key"):  # a key of zeros is none
        sev_guest.derived_key(device)
    monkeypatch.setattr(fcntl, "ioctl", FakeFirmware(b"", failure=errno.EIO))
    with pytest.raises(FedcallError, match="firmware error 0x16; is this a guest of SEV-SNP"):
        sev_guest.report(DATA, device)
    with pytest.raises(FedcallError, match="No such file"):
        sev_guest.derived_key(device.parent / "gone")


def test_sgx_enclave__the_key_of_the_measurement(tmp_path):
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys" / "_sgx_mrenclave"
    with pytest.raises(FedcallError, match="gives no sealing key"):
        SgxEnclave(folder=tmp_path).secret()
    key.write_bytes(bytes(16))
    with pytest.raises(FedcallError, match="no key"):
        SgxEnclave(folder=tmp_path).secret()
    key.write_bytes(bytes(range(16)))
    assert SgxEnclave(folder=tmp_path).secret() == bytes(range(16))


def test_simulated_enclave__the_secret_comes_back_to_the_same_image_and_machine_only(tmp_path):
    machine = create_simulated(tmp_path / "machine")
    assert create_simulated(tmp_path / "machine").secret() == read_simulated(tmp_path / "machine").secret()
    other_image = SimulatedEnclave(machine.root, machine.chip_secret, bytes(48))
    other_machine = create_simulated(tmp_path / "other")
    same_image = SimulatedEnclave(other_machine.root, other_machine.chip_secret, machine.measurement)
    assert len({one.secret() for one in (machine, other_image, other_machine, same_image)}) == 4
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "machine").iterdir()} == {0}


def test_open_enclave__names_what_it_takes(tmp_path):
    create_simulated(tmp_path / "machine")
    assert isinstance(open_enclave(f"simulated:{tmp_path / 'machine'}"), SimulatedEnclave)
    assert isinstance(open_enclave("sev-snp"), SnpEnclave)
    assert isinstance(open_enclave("sgx"), SgxEnclave)
    for kind in ("tdx", "simulated", "simulated:"):
        with pytest.raises(FedcallError, match="one of sev-snp, sgx, simulated:FOLDER expected"):
            open_enclave(kind)
    with pytest.raises(FedcallError, match="attestation simulate"):
        open_enclave(f"simulated:{tmp_path}")
    (tmp_path / "machine" / "measurement").chmod(0o600)
    (tmp_path / "machine" / "measurement").write_text("00")
    with pytest.raises(FedcallError, match="not a simulated machine"):
        read_simulated(tmp_path / "machine")
