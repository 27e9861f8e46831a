"""Simulated evidence: good for rehearsals, and for nothing else."""

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import verify_evidence
from fedcall.attestation.policy import EvidencePolicy, SimulatedPolicy, words
from fedcall.attestation.providers import from_simulation
from fedcall.attestation.simulated import root_digest
from fedcall.documents import public_text
from real_evidence import intel_evidence, intel_policy, snp_evidence, snp_policy

DATA, IMAGE = bytes(range(64)), bytes(48)
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
KEY = Ed25519PrivateKey.generate()
POLICY = EvidencePolicy(
    simulated=SimulatedPolicy(root=root_digest(public_text(KEY.public_key())), measurements=(IMAGE.hex(),))
)


def refusal(policy: EvidencePolicy, key: Ed25519PrivateKey = KEY, image: bytes = IMAGE, data: bytes = DATA) -> str:
    with pytest.raises(EvidenceRefused) as caught:
        verify_evidence(from_simulation(data, key, image), policy, DATA, NOW)
    return caught.value.code


def test_verify_simulated() -> None:
    verdict = verify_evidence(from_simulation(DATA, KEY, IMAGE), POLICY, DATA, NOW)
    assert verdict.details == "SIMULATED, protects nothing"
    assert refusal(POLICY, key=Ed25519PrivateKey.generate()) == "root"
    assert refusal(POLICY, image=b"\1" * 48) == "measurement"
    assert refusal(POLICY, data=b"\1" * 64) == "binding"


def test_verify_simulated__no_policy_of_a_real_platform_accepts_it() -> None:
    for policy in (snp_policy(snp_evidence("oak_genoa_v5")), intel_policy(intel_evidence("tdx_quote"))):
        assert refusal(policy) == "platform"


def test_evidence_policy__simulated_stands_alone() -> None:
    real = snp_policy(snp_evidence("oak_genoa_v5"))
    with pytest.raises(ValidationError, match="beside a real platform"):
        EvidencePolicy(snp=real.snp, simulated=POLICY.simulated)
    with pytest.raises(ValidationError, match="no platform"):
        EvidencePolicy()
    assert "protects nothing" in words(POLICY)[0]


def test_verify_simulated__every_byte() -> None:
    evidence = from_simulation(DATA, KEY, IMAGE)
    report = evidence.files["report.bin"]
    for place in range(len(report)):
        changed = bytearray(report)
        changed[place] ^= 1 << place % 8
        broken = type(evidence)("simulated", {"report.bin": bytes(changed)})
        with pytest.raises(EvidenceRefused):
            verify_evidence(broken, POLICY, DATA, NOW)


def test_words__weak_points_come_first() -> None:
    evidence = snp_evidence("gosev_milan_v2_debug")
    said = words(snp_policy(evidence, revocation_list="if there"))
    assert "debugging is ALLOWED" in said[0]
    assert "revoked key" in said[1]
