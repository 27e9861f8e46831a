"""What no real evidence at hand shows: genuine reports that say something a policy must refuse."""

import dataclasses
from typing import Any

import pytest
from cryptography import x509

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.certificates import pinned_root
from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import verify_evidence
from real_evidence import MadeUpGenoa, snp_evidence, snp_policy

BINDING = Binding(nonce="11" * 32, tls_key="22" * 32, hpke_key="33" * 32, study="44" * 32)
EXPECTED = report_data(BINDING)


@pytest.fixture(scope="module")
def machine() -> MadeUpGenoa:
    return MadeUpGenoa()


@pytest.fixture
def trusted(machine: MadeUpGenoa, monkeypatch: pytest.MonkeyPatch) -> MadeUpGenoa:
    """The machine, where its root stands in place of AMD's for Genoa; in this test alone."""

    def root(name: str) -> x509.Certificate:
        return machine.root if name == "ark-genoa" else pinned_root(name)

    monkeypatch.setattr("fedcall.attestation.snp.pinned_root", root)
    return machine


def code(machine: MadeUpGenoa, expected: bytes = EXPECTED, **evidence: Any) -> str:
    given = machine.evidence(**({"report": machine.report(EXPECTED)} | evidence))
    with pytest.raises(EvidenceRefused) as caught:
        verify_evidence(given, machine.policy(), expected, machine.time)
    return caught.value.code


def test_verify_snp__a_genuine_report_of_a_trusted_root(trusted: MadeUpGenoa) -> None:
    evidence = trusted.evidence(trusted.report(EXPECTED))
    verdict = verify_evidence(evidence, trusted.policy(), EXPECTED, trusted.time)
    assert verdict.details == "Genoa, SEV firmware 1.55.43"


def test_verify_snp__a_root_that_is_not_amd_s(machine: MadeUpGenoa) -> None:
    assert code(machine) == "root"


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("debug", {"policy": 0xB0000}),
        ("migration", {"policy": 0x70000}),
        ("migration", {"agent": b"\x01" * 32}),
        ("measurement", {"measurement": bytes(48)}),
        ("vmpl", {"vmpl": 2}),
        ("cpuid", {"cpuid": bytes([0x19, 0x01, 1])}),
        ("cpuid", {"cpuid": bytes([0x1B, 0x01, 1])}),
        ("key-tcb", {"tcb": bytes([10, 0, 0, 0, 0, 0, 26, 84])}),
        ("firmware", {"firmware": bytes([42, 55, 1])}),
        ("signing-key", {"signer": 7 << 2}),
        ("chip", {"signer": 2, "chip": bytes(64)}),
        ("chip", {"chip": b"\x05" * 64}),
        ("report-format", {"policy": 0x10000}),
        ("report-format", {"policy": 1 << 40 | 0x30000}),
    ],
)
def test_verify_snp__genuine_and_not_allowed(trusted: MadeUpGenoa, expected: str, changes: dict) -> None:
    assert code(trusted, report=trusted.report(EXPECTED, **changes)) == expected


def test_verify_snp__a_revoked_intermediate(trusted: MadeUpGenoa) -> None:
    assert code(trusted, revoked=trusted.revocation_list(2)) == "revoked"
    evidence = trusted.evidence(trusted.report(EXPECTED), revoked=trusted.revocation_list(7))
    verify_evidence(evidence, trusted.policy(), EXPECTED, trusted.time)


def test_verify_snp__a_key_for_another_product(trusted: MadeUpGenoa) -> None:
    assert code(trusted, key=trusted.key_certificate(product=b"Milan-B0")) == "product"


@pytest.mark.parametrize("changed", ["nonce", "tls_key", "hpke_key", "study"])
def test_report_data__depends_on_everything_it_binds(trusted: MadeUpGenoa, changed: str) -> None:
    """An old nonce, another TLS key (relayed evidence), another HPKE key, another study: each is refused."""
    other = report_data(BINDING.model_copy(update={changed: "55" * 32}))
    assert code(trusted, other) == "binding"


def test_report_data__fields_cannot_run_into_each_other() -> None:
    moved = Binding(nonce="11" * 31, tls_key="11" + "22" * 32, hpke_key="33" * 32, study="44" * 32)
    assert report_data(moved) != EXPECTED


def test_verify_evidence__a_real_report_under_another_machine_s_policy(trusted: MadeUpGenoa) -> None:
    real = snp_evidence("oak_genoa_v5")
    with pytest.raises(EvidenceRefused):
        verify_evidence(real, trusted.policy(), EXPECTED, trusted.time)
    mixed = dataclasses.replace(
        trusted.evidence(trusted.report(EXPECTED)),
        files={**trusted.evidence(trusted.report(EXPECTED)).files, "key.der": real.files["key.der"]},
    )
    with pytest.raises(EvidenceRefused):
        verify_evidence(mixed, snp_policy(real), EXPECTED, trusted.time)
