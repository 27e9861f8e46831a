"""What evidence is bound to: the verifier's nonce, the keys of the enclave, the study."""

import hashlib

from fedcall.documents import Document

_DOMAIN = b"fedcall evidence 1\0"


class Binding(Document):
    """What a site asked for, and the keys it got: recorded beside the evidence, so that anybody can verify it again."""

    nonce: str  # 32 bytes, hexadecimal; drawn by the site for this exchange
    tls_key: str  # SHA-256 of the key of the aggregator's TLS certificate (SubjectPublicKeyInfo), hexadecimal
    hpke_key: str  # X25519 key that updates are sealed to, hexadecimal
    study: str  # digest of the study


def report_data(binding: Binding) -> bytes:
    """Return the 64 bytes that evidence must carry for a binding: SHA-512 over its fields, each with its length."""
    digest = hashlib.sha512(_DOMAIN)
    for text in (binding.nonce, binding.tls_key, binding.hpke_key, binding.study):
        field = bytes.fromhex(text)
        digest.update(len(field).to_bytes(4, "big") + field)
    return digest.digest()
