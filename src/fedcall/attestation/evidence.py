"""Evidence as a folder of files, from reading to what was verified.

platform         sev-snp, sgx, tdx or simulated, as text
report.bin       the report of SEV-SNP or of the simulated platform
key.der          SEV-SNP: certificate of the key that signed it
chain.pem        SEV-SNP: AMD's intermediate certificate, then its root
revoked.crl      SEV-SNP: AMD's revocation list, DER; may be missing where the policy says so
quote.bin        SGX, TDX: the quote
collateral.json  SGX, TDX: what Intel says of the platform, as dcap-qvl writes it
binding.json     nonce, keys and study that the evidence is bound to, where a site recorded it
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.checks import Check, Checks, EvidenceRefused
from fedcall.attestation.intel import IntelEvidence, verify_intel
from fedcall.attestation.policy import EvidencePolicy
from fedcall.attestation.simulated import verify_simulated
from fedcall.attestation.snp import SnpEvidence, verify_snp
from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.files import write_bytes

Platform = Literal["sev-snp", "sgx", "tdx", "simulated"]
BINDING = "binding.json"
_FILES: Mapping[str, tuple[str, ...]] = {
    "sev-snp": ("report.bin", "key.der", "chain.pem"),
    "sgx": ("quote.bin", "collateral.json"),
    "tdx": ("quote.bin", "collateral.json"),
    "simulated": ("report.bin",),
}
_OPTIONAL = ("revoked.crl",)
_MOST_BYTES = 1_000_000
"""A file of evidence is some kilobytes; a revocation list may grow."""


@dataclass(frozen=True)
class Evidence:
    """A platform's evidence in memory: the content of the files above by name, without `binding.json`."""

    platform: Platform
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class VerifiedEvidence:
    """What was verified: when, what runs where, and every check that held."""

    platform: Platform
    time: str
    details: str  # "Genoa, SEV firmware 1.55.43", for example
    measurement: str
    checks: tuple[Check, ...]


def read_evidence(folder: Path) -> Evidence:
    """Read a folder of evidence.

    Raises
    ------
    FedcallError
        If the folder, the platform's name or a file of this platform is missing, or a file is beyond 1 MB.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FedcallError(f"{folder}: no such folder of evidence")
    name = _read(folder / "platform").decode(errors="replace").strip()
    if name not in _FILES:
        raise FedcallError(f"{folder / 'platform'}: one of {', '.join(_FILES)} expected, found {name[:40]!r}")
    found = {file: _read(folder / file) for file in _FILES[name]}
    found |= {file: _read(folder / file) for file in _OPTIONAL if (folder / file).is_file()}
    return Evidence(name, found)  # type: ignore[arg-type]  # one of _FILES


def write_evidence(folder: Path, evidence: Evidence, binding: Binding | None = None) -> None:
    """Write evidence as a folder, each file whole or not at all; `platform`, which a reader looks for, last."""
    for name, content in evidence.files.items():
        write_bytes(Path(folder) / name, content)
    if binding:
        write_bytes(Path(folder) / BINDING, binding.canonical())
    write_bytes(Path(folder) / "platform", evidence.platform.encode())


def read_binding(folder: Path) -> Binding | None:
    """Return the binding recorded beside evidence; None if there is none."""
    path = Path(folder) / BINDING
    if not path.is_file():
        return None
    try:
        return Binding.model_validate_json(_read(path))
    except ValidationError as error:
        raise FedcallError(f"{path}: {describe(error)}") from None


def verify_evidence(
    evidence: Evidence, policy: EvidencePolicy, expected: bytes, time: datetime.datetime
) -> VerifiedEvidence:
    """Verify evidence of any platform against a policy.

    Parameters
    ----------
    evidence : Evidence
        From anywhere.
    policy : EvidencePolicy
        What is allowed; platforms it does not name are refused.
    expected : bytes
        64 bytes that the evidence must be bound to, `binding.report_data` of what the verifier itself saw.
    time : datetime
        When, with a time zone: certificates, lists and collateral must be current.

    Raises
    ------
    EvidenceRefused
        With a code and a sentence, at the first check that fails.
    """
    checks = Checks()
    section: Any = {"sev-snp": policy.snp, "sgx": policy.sgx, "tdx": policy.tdx, "simulated": policy.simulated}
    allowed = section[evidence.platform]
    named = ", ".join(name for name, value in section.items() if value)
    checks.require(allowed is not None, "platform", "platform", allowed=named, found=evidence.platform)
    try:
        details, measurement = _verify(evidence, allowed, expected, time, checks)
    except EvidenceRefused:
        raise
    except Exception as error:  # parsers of foreign bytes raise what they like; none of it is an acceptance
        raise EvidenceRefused("malformed", f"cannot be read ({type(error).__name__}: {str(error)[:200]})") from None
    return VerifiedEvidence(evidence.platform, f"{time:%Y-%m-%dT%H:%M:%SZ}", details, measurement, tuple(checks.done))


def expected_report_data(folder: Path, given: str | None) -> bytes:
    """Return what evidence in a folder must be bound to: as given in hexadecimal, or from its `binding.json`."""
    recorded = read_binding(folder)
    if given is not None and recorded is not None:
        raise FedcallError(f"{folder / BINDING}: stands beside --report-data; leave one out")
    if given is not None:
        try:
            value = bytes.fromhex(given)
        except ValueError:
            value = b""
        if len(value) != 64:
            raise FedcallError(
                f"--report-data: 128 hexadecimal digits (64 bytes) expected, found {len(given)} characters"
            )
        return value
    if recorded is None:
        raise FedcallError(
            f"{folder / BINDING}: not there; give --report-data, or nothing ties the evidence to anything"
        )
    try:
        return report_data(recorded)
    except ValueError:
        raise EvidenceRefused("binding", f"{folder / BINDING}: a field is not in hexadecimal") from None


def _verify(
    evidence: Evidence, allowed: Any, expected: bytes, time: datetime.datetime, checks: Checks
) -> tuple[str, str]:
    """Return what a platform is, in words, and the measurement of what runs on it."""
    files = evidence.files
    if evidence.platform == "sev-snp":
        parts = SnpEvidence(files["report.bin"], files["key.der"], files["chain.pem"], files.get("revoked.crl"))
        snp = verify_snp(parts, allowed, expected, time, checks)
        return f"{snp.generation}, SEV firmware {snp.firmware}", snp.measurement
    if evidence.platform == "simulated":
        return "SIMULATED, protects nothing", verify_simulated(files["report.bin"], allowed, expected, checks)
    quote = IntelEvidence(files["quote.bin"], files["collateral.json"])
    intel = verify_intel(quote, allowed, expected, time, checks)
    return f"firmware {intel.tcb_status}", intel.measurement


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FedcallError(f"{path}: {path.stat().st_size} bytes, at most {_MOST_BYTES} expected of evidence")
        return path.read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file of evidence") from None
    except OSError as error:
        raise FedcallError(f"{path}: cannot be read ({error.strerror})") from None
