"""Get evidence from the machine a program runs on. Every provider is a folder of files that the kernel answers.

configfs-tsm (SEV-SNP and TDX, Linux 6.7 and newer): Documentation/ABI/testing/configfs-tsm of the kernel.
`/dev/sev-guest` (SEV-SNP, Linux 5.19 and newer): see `sev_guest`.
Gramine (SGX): `/dev/attestation`, see "Attestation and Secret Provisioning" of Gramine's documentation.
"""

import contextlib
import os
import secrets
import struct
import uuid
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.attestation import sev_guest
from fedcall.attestation.evidence import Evidence, Platform
from fedcall.attestation.simulated import simulated_report
from fedcall.errors import FedcallError

TSM_FOLDER = Path("/sys/kernel/config/tsm/report")
GRAMINE_FOLDER = Path("/dev/attestation")
_TSM_PLATFORMS: Mapping[str, Platform] = {"sev_guest": "sev-snp", "tdx_guest": "tdx"}
_TRIES = 5

# AMD publication 56421, "SEV-ES Guest-Hypervisor Communication Block", table of certificates that a host may hand over.
_TABLE_GUIDS = {
    uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): "root",
    uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): "intermediate",
    uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"): "key",
    uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): "key",
    uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea"): "revoked",
}


def from_tsm(report_data: bytes, endorsements: Mapping[str, bytes], folder: Path = TSM_FOLDER) -> Evidence:
    """Ask the kernel's configfs-tsm for evidence.

    Parameters
    ----------
    report_data : bytes
        64 bytes to bind to.
    endorsements : mapping of file name to bytes
        What vouches for the machine's key where the host hands nothing over: `key.der`, `chain.pem`, `revoked.crl`, or
        `collateral.json`.
    folder : Path
        Where configfs-tsm is mounted.

    Raises
    ------
    FedcallError
        If there is no configfs-tsm, the firmware refuses, or another program keeps changing the same request.
    """
    _need_64(report_data)
    if not folder.is_dir():
        raise FedcallError(
            f"{folder}: not there; configfs-tsm needs Linux 6.7 in an SEV-SNP or TDX guest, with configfs mounted"
        )
    entry = folder / f"fedcall-{secrets.token_hex(8)}"
    try:
        entry.mkdir()
        try:
            provider, report, table = _ask_tsm(entry, report_data)
        finally:
            with contextlib.suppress(OSError):
                entry.rmdir()
    except OSError as error:
        raise FedcallError(f"{entry}: the kernel gives no report ({os.strerror(error.errno or 0)})") from None
    if provider not in _TSM_PLATFORMS:
        raise FedcallError(f"{entry}: provider {provider!r}; one of {', '.join(_TSM_PLATFORMS)} expected")
    platform = _TSM_PLATFORMS[provider]
    if platform == "tdx":
        return Evidence(platform, {"quote.bin": report, **_endorsed(endorsements, ("collateral.json",))})
    handed = _certificates(table)
    files = {"report.bin": report, **handed, **_endorsed(endorsements, ("key.der", "chain.pem", "revoked.crl"), handed)}
    return Evidence(platform, files)


def from_sev_guest(report_data: bytes, endorsements: Mapping[str, bytes], device: Path = sev_guest.DEVICE) -> Evidence:
    """Ask `/dev/sev-guest` for a report, on kernels before 6.7; parameters and errors as of `from_tsm`."""
    report = sev_guest.report(report_data, device)
    return Evidence(
        "sev-snp", {"report.bin": report, **_endorsed(endorsements, ("key.der", "chain.pem", "revoked.crl"))}
    )


def from_gramine(report_data: bytes, endorsements: Mapping[str, bytes], folder: Path = GRAMINE_FOLDER) -> Evidence:
    """Ask Gramine for an SGX quote; parameters and errors as of `from_tsm`."""
    _need_64(report_data)
    try:
        kind = (folder / "attestation_type").read_text().strip()
        if kind != "dcap":
            raise FedcallError(f"{folder / 'attestation_type'}: {kind!r}; 'dcap' is needed (sgx.remote_attestation)")
        (folder / "user_report_data").write_bytes(report_data)
        quote = (folder / "quote").read_bytes()
    except OSError as error:
        raise FedcallError(f"{folder}: Gramine gives no quote ({error.strerror})") from None
    return Evidence("sgx", {"quote.bin": quote, **_endorsed(endorsements, ("collateral.json",))})


def from_simulation(report_data: bytes, key: Ed25519PrivateKey, measurement: bytes) -> Evidence:
    """Return simulated evidence for a rehearsal or a test; it protects nothing."""
    _need_64(report_data)
    return Evidence("simulated", {"report.bin": simulated_report(key, measurement, report_data)})


def read_endorsements(folder: Path | None) -> dict[str, bytes]:
    """Return the files of a folder that vouch for a machine's key; none without a folder."""
    if folder is None:
        return {}
    names = ("key.der", "chain.pem", "revoked.crl", "collateral.json")
    found = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    if not found:
        raise FedcallError(f"{folder}: holds none of {', '.join(names)}")
    return found


def _ask_tsm(entry: Path, report_data: bytes) -> tuple[str, bytes, bytes]:
    """Write the request and read the answer, again if somebody else wrote in between (the kernel counts writes)."""
    for _ in range(_TRIES):
        before = _number(entry / "generation")
        (entry / "inblob").write_bytes(report_data)
        try:
            report = (entry / "outblob").read_bytes()
            table = (entry / "auxblob").read_bytes() if (entry / "auxblob").exists() else b""
            provider = (entry / "provider").read_text().strip()
        except BlockingIOError:  # EWOULDBLOCK: the options changed while the report was made
            continue
        if _number(entry / "generation") == before + 1:
            return provider, report, table
    raise FedcallError(f"{entry}: another program changes this request again and again")


def _number(path: Path) -> int:
    return int(path.read_text())


def _certificates(table: bytes) -> dict[str, bytes]:
    """Return what a host handed over beside an SEV-SNP report."""
    parts: dict[str, bytes] = {}
    for place in range(0, len(table) - 23, 24):
        guid = table[place : place + 16]
        start, size = struct.unpack_from("<II", table, place + 16)
        if not any(guid):
            break
        # Hosts disagree on the order of a GUID's bytes.
        role = _TABLE_GUIDS.get(uuid.UUID(bytes=guid)) or _TABLE_GUIDS.get(uuid.UUID(bytes_le=guid))
        if role and start + size <= len(table):
            parts[role] = table[start : start + size]
    files = {}
    if "key" in parts:
        files["key.der"] = parts["key"]
    if "intermediate" in parts and "root" in parts:
        files["chain.pem"] = _pem(parts["intermediate"]) + _pem(parts["root"])
    if "revoked" in parts:
        files["revoked.crl"] = parts["revoked"]
    return files


def _pem(certificate: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        is_pem = certificate.lstrip().startswith(b"-----")
        read = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
        return read(certificate).public_bytes(Encoding.PEM)
    except ValueError:
        raise FedcallError("the host handed over a certificate that is none; give the endorsements yourself") from None


def _endorsed(given: Mapping[str, bytes], names: tuple[str, ...], handed: Mapping[str, bytes] = {}) -> dict[str, bytes]:
    chosen = {name: given[name] for name in names if name in given}
    missing = [name for name in names if name not in chosen and name not in handed and name != "revoked.crl"]
    if missing:
        raise FedcallError(f"the host handed over no {' and no '.join(missing)}; give a folder with it: --endorsements")
    return chosen


def _need_64(report_data: bytes) -> None:
    if len(report_data) != 64:
        raise ValueError(f"report data must have 64 bytes, found {len(report_data)}")
