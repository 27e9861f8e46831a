"""What evidence is bound to: the verifier's nonce, the keys of the enclave, the study."""

import hashlib
from typing import ClassVar

from pydantic import Field

from fedcall.documents import GrownDocument

_DOMAIN = b"fedcall evidence 1\0"


class Binding(GrownDocument):
    """What a site asked for, and the keys it got: recorded beside the evidence, so that anybody can verify it again."""

    NEWER: ClassVar[tuple[str, ...]] = ("log_head",)

    nonce: str  # 32 bytes, hexadecimal; drawn by the site for this exchange
    tls_key: str  # SHA-256 of the key of the aggregator's TLS certificate (SubjectPublicKeyInfo), hexadecimal
    hpke_key: str  # X25519 key that updates are sealed to, hexadecimal
    study: str  # digest of the study
    log_head: str | None = Field(
        None,
        description="Head of the aggregator's log that the site's last receipt names: an enclave gives evidence bound"
        " to it only while its log holds that line, so that a log that was rolled back shows.",
    )


def report_data(binding: Binding) -> bytes:
    """Return the 64 bytes that evidence must carry for a binding: SHA-512 over its fields, each with its length."""
    digest = hashlib.sha512(_DOMAIN)
    head = () if binding.log_head is None else (binding.log_head,)
    for text in (binding.nonce, binding.tls_key, binding.hpke_key, binding.study, *head):
        field = bytes.fromhex(text)
        digest.update(len(field).to_bytes(4, "big") + field)
    return digest.digest()
