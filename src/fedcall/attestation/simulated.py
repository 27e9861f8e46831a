"""A simulated platform for rehearsals and tests: evidence that looks like the real thing and protects nothing.

Its root is an Ed25519 key that a policy names in a section of its own; no policy of a real platform has a place for it.
"""

import hashlib
import hmac
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.attestation.checks import Checks, EvidenceRefused
from fedcall.attestation.policy import Hex48, Hex64, SimulatedPolicy
from fedcall.documents import Document, is_exact, read_unverified, sign, verify
from fedcall.errors import FedcallError


class SimulatedReport(Document):
    """What a simulated processor says of the program that runs."""

    platform: Literal["simulated"] = "simulated"
    measurement: Hex48
    report_data: Hex64


def simulated_report(key: Ed25519PrivateKey, measurement: bytes, report_data: bytes) -> bytes:
    """Return a signed report; measurement of 48 bytes, report data of 64."""
    return sign(SimulatedReport(measurement=measurement.hex(), report_data=report_data.hex()), key)


def root_digest(public_key: str) -> str:
    """Return what a policy names: the SHA-256 of a root's public key (base64, as in documents)."""
    return hashlib.sha256(public_key.encode()).hexdigest()


def verify_simulated(report: bytes, policy: SimulatedPolicy, report_data: bytes, checks: Checks) -> str:
    """Verify a simulated report; return its measurement. Raises EvidenceRefused as real verifications do."""
    try:
        _, key = read_unverified(report, SimulatedReport)
        checks.require(
            root_digest(key) == policy.root,
            "root",
            "simulated root",
            allowed=policy.root[:16],
            found=root_digest(key)[:16],
        )
        body = verify(report, SimulatedReport, key)
        if not is_exact(report, body):
            raise EvidenceRefused("report-format", "not byte for byte what a simulated platform writes")
    except EvidenceRefused:
        raise
    except FedcallError as error:
        raise EvidenceRefused("report-format", str(error)) from None
    checks.require_image(body.measurement, policy.measurements)
    checks.require(
        hmac.compare_digest(body.report_data, report_data.hex()),
        "binding",
        "nonce, keys and study that the report is bound to",
        allowed=f"{report_data.hex()[:16]}…",
        found=f"{body.report_data[:16]}…",
    )
    return body.measurement
