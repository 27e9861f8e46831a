"""What a site and an enclave say to each other before anything is uploaded, and what the site keeps of it."""

import base64
import binascii
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import (
    BINDING,
    Evidence,
    Platform,
    VerifiedEvidence,
    read_binding,
    read_evidence,
    verify_evidence,
    write_evidence,
)
from fedcall.attestation.policy import EvidencePolicy
from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.study.names import Name

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
VERDICT = "verdict.json"


class EvidenceWish(Document):
    """A site asks for evidence: its nonce, and its newest receipt, whose line the enclave's log must hold."""

    nonce: Hex32
    receipt: Annotated[str, Field(max_length=20_000)] | None = Field(
        description="The newest signed receipt of the site in this study; null before the first."
    )


class EvidenceOffer(Document):
    """An enclave's evidence and the keys that it is bound to; nothing here is trusted before it is verified."""

    platform: Platform
    files: Mapping[str, str] = Field(description="Files of the evidence by name, base64.")
    tls_key: Hex32 = Field(description="SHA-256 of the key of the enclave's TLS certificate (SubjectPublicKeyInfo).")
    hpke_key: Hex32 = Field(description="X25519 key to seal to.")

    def evidence(self) -> Evidence:
        """Return the evidence; FedcallError if a file is not base64."""
        try:
            files = {name: base64.b64decode(text, validate=True) for name, text in self.files.items()}
        except (binascii.Error, ValueError):
            raise FedcallError("the aggregator's evidence is not base64") from None
        return Evidence(self.platform, files)


class SealedTo(Document):
    """What a site verified before it sealed an update: kept beside the receipt, and verified again by the report."""

    site: Name
    study: Hex32
    round: Annotated[int, Field(ge=1)]
    platform: Platform
    details: str
    measurement: str
    verified: str = Field(description="When, UTC.")
    checks: int = Field(description="Checks that held.")
    tls_seen: bool = Field(description="Whether the site saw the TLS key itself, on the connection it uploaded over.")


def offer(evidence: Evidence, tls_key: str, hpke_key: bytes) -> EvidenceOffer:
    """Return evidence as it travels."""
    files = {name: base64.b64encode(content).decode() for name, content in evidence.files.items()}
    return EvidenceOffer(platform=evidence.platform, files=files, tls_key=tls_key, hpke_key=hpke_key.hex())


def record_folder(receipt: Path) -> Path:
    """Return where the record of what an update was sealed to lies, beside its receipt."""
    return receipt.with_name(f"{receipt.stem}.evidence")


def keep_record(folder: Path, evidence: Evidence, binding: Binding, record: SealedTo) -> None:
    """Write evidence, what it is bound to, and what was found, as a folder that `fedcall attestation verify` reads."""
    write_evidence(folder, evidence, binding)
    write_bytes(folder / VERDICT, record.canonical())


def read_record(folder: Path) -> SealedTo:
    """Read what a site noted; FedcallError if it is not there or not whole."""
    path = Path(folder) / VERDICT
    try:
        return SealedTo.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise FedcallError(f"{path}: no record of what the update was sealed to; upload the round again") from None


def verify_record(folder: Path, policy: EvidencePolicy, study: str) -> tuple[SealedTo, VerifiedEvidence]:
    """Verify the evidence of a record again, as of the time it names, against the study's policy.

    Raises
    ------
    FedcallError
        If the record is not whole, or is bound to another study.
    EvidenceRefused
        If the evidence does not show what the policy demands.
    """
    record, binding = read_record(folder), read_binding(folder)
    if binding is None or binding.study != study or record.study != study:
        raise FedcallError(f"{folder}: the record is not of this study; upload the round again")
    time = datetime.datetime.fromisoformat(record.verified)
    try:
        expected = report_data(binding)
    except ValueError:
        raise EvidenceRefused("binding", f"{folder / BINDING}: a field is not in hexadecimal") from None
    return record, verify_evidence(read_evidence(folder), policy, expected, time)


def sentence(record: SealedTo) -> str:
    """Say what an update was sealed to."""
    return (
        f"sealed to measurement {record.measurement[:16]}…, platform {record.platform} ({record.details}), verified"
        f" {record.verified}, {record.checks} checks"
    )
