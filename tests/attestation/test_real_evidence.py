"""Evidence of real machines verifies, and no changed byte of it does."""

import dataclasses
import datetime
import os
import random
from collections.abc import Callable

import pytest

from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import Evidence, verify_evidence
from fedcall.attestation.policy import EvidencePolicy
from real_evidence import (
    INTEL_TIME,
    SNP_NAMES,
    SNP_TIME,
    intel_evidence,
    intel_policy,
    intel_report_data,
    snp_evidence,
    snp_file,
    snp_policy,
    snp_report_data,
)


def with_file(evidence: Evidence, name: str, content: bytes) -> Evidence:
    return dataclasses.replace(evidence, files={**evidence.files, name: content})


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits(content: bytes) -> range | list[int]:
    """Return the bits to change: all with FEDCALL_FLIPS=all (a minute), else one of every byte."""
    if os.environ.get("FEDCALL_FLIPS") == "all":
        return range(8 * len(content))
    return [8 * place + place % 8 for place in range(len(content))]


def refused(
    evidence: Evidence, policy: EvidencePolicy, expected: bytes, time: datetime.datetime = SNP_TIME
) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as caught:
        verify_evidence(evidence, policy, expected, time)
    return caught.value


@pytest.mark.parametrize("name", SNP_NAMES)
def test_verify_snp__a_real_report(name: str) -> None:
    evidence = snp_evidence(name)
    verdict = verify_evidence(evidence, snp_policy(evidence), snp_report_data(evidence), SNP_TIME)
    assert verdict.details.split(",")[0].lower() in name
    assert {"root", "signature", "key-tcb", "tcb", "measurement", "binding", "debug"} <= {
        check.code for check in verdict.checks
    }


def test_verify_snp__every_bit_of_a_report() -> None:
    evidence = snp_evidence("oak_genoa_v5")
    policy, expected = snp_policy(evidence), snp_report_data(evidence)
    report = evidence.files["report.bin"]
    for bit in bits(report):
        refused(with_file(evidence, "report.bin", flipped(report, bit)), policy, expected)


@pytest.mark.parametrize("name", SNP_NAMES)
def test_verify_snp__bits_of_every_file(name: str) -> None:
    evidence = snp_evidence(name)
    policy, expected = snp_policy(evidence), snp_report_data(evidence)
    chosen = random.Random(name)
    for file, content in evidence.files.items():
        for bit in chosen.sample(range(8 * len(content)), 56):
            refused(with_file(evidence, file, flipped(content, bit)), policy, expected)


@pytest.mark.parametrize("name", ["sgx_quote", "tdx_quote"])
def test_verify_intel__a_real_quote(name: str) -> None:
    evidence = intel_evidence(name)
    verdict = verify_evidence(evidence, intel_policy(evidence), intel_report_data(evidence), INTEL_TIME)
    assert verdict.details == ("firmware UpToDate" if "tdx" in name else "firmware ConfigurationAndSWHardeningNeeded")


def test_verify_intel__a_real_quote_of_firmware_that_intel_no_longer_knows() -> None:
    """A quote of version 5 whose firmware is older than every level of its collateral: no policy accepts it."""
    evidence = intel_evidence("tdx_quote_outdated")
    time = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    every = ("UpToDate", "OutOfDate", "SWHardeningNeeded", "ConfigurationNeeded", "Revoked")
    caught = refused(evidence, intel_policy(evidence, tcb_statuses=every), intel_report_data(evidence), time)
    assert caught.code == "quote"
    assert "No matching TCB level" in caught.sentence


@pytest.mark.parametrize("name", ["sgx_quote", "tdx_quote"])
def test_verify_intel__every_bit_of_a_quote(name: str) -> None:
    """dcap-qvl alone accepts 642 and 714 of the quotes with one changed bit in one byte."""
    evidence = intel_evidence(name)
    policy, expected = intel_policy(evidence), intel_report_data(evidence)
    quote = evidence.files["quote.bin"]
    for bit in bits(quote):
        refused(with_file(evidence, "quote.bin", flipped(quote, bit)), policy, expected, INTEL_TIME)


@pytest.mark.parametrize("name", ["sgx_quote", "tdx_quote"])
def test_verify_intel__bits_of_collateral(name: str) -> None:
    evidence = intel_evidence(name)
    policy, expected = intel_policy(evidence), intel_report_data(evidence)
    collateral = evidence.files["collateral.json"]
    for bit in random.Random(name).sample(range(8 * len(collateral)), 400):
        refused(with_file(evidence, "collateral.json", flipped(collateral, bit)), policy, expected, INTEL_TIME)


@pytest.mark.parametrize("name", ["sgx_quote", "tdx_quote"])
def test_verify_intel__cut_or_extended(name: str) -> None:
    evidence = intel_evidence(name)
    policy, expected = intel_policy(evidence), intel_report_data(evidence)
    quote = evidence.files["quote.bin"]
    whole = len(quote.rstrip(b"\0"))  # a kernel's buffer may be filled up with zeros
    for changed in (quote + b"x", quote + b"\0x", *(quote[:size] for size in range(0, whole, 41))):
        refused(with_file(evidence, "quote.bin", changed), policy, expected, INTEL_TIME)


@pytest.mark.parametrize("key", ["trustee_test-vcek-invalid-legacy.der", "trustee_test-vcek-invalid-new.der"])
def test_verify_snp__a_key_of_another_chip(key: str) -> None:
    evidence = snp_evidence("trustee_milan_v2")
    policy, expected = snp_policy(evidence), snp_report_data(evidence)
    assert refused(with_file(evidence, "key.der", snp_file(key)), policy, expected).code in (
        "key-certificate",
        "signature",
    )


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("measurement", {"measurements": ("00" * 48,)}),
        ("tcb", {"tcb_floors": {"Genoa": {"bootloader": 10, "snp": 26, "microcode": 84}}}),
        ("tcb", {"tcb_floors": {"Genoa": {"bootloader": 10, "snp": 25, "microcode": 85}}}),
        ("generation", {"tcb_floors": {"Milan": {"bootloader": 1, "snp": 1, "microcode": 1}}}),
        ("firmware", {"firmware_floor": "1.55.44"}),
        ("vmpl", {"vmpl": 1}),
        ("guest-svn", {"guest_svn_floor": 1}),
        ("chip", {"chips": ("11" * 64,)}),
        ("host-data", {"host_data": "22" * 32}),
        ("id-key", {"id_keys": ("33" * 48,)}),
        ("author-key", {"author_keys": ("00" * 48,)}),
        ("mitigations", {"mitigations": 2**63}),
    ],
)
def test_verify_snp__what_the_policy_does_not_allow(code: str, changes: dict) -> None:
    evidence = snp_evidence("oak_genoa_v5")
    assert refused(evidence, snp_policy(evidence, **changes), snp_report_data(evidence)).code == code


def test_verify_snp__the_floor_holds_for_reported_committed_and_launch_firmware() -> None:
    """The report of `trustee_milan_v3_vlek`: reported microcode 217, committed and launch 219, current 220."""
    evidence = snp_evidence("trustee_milan_v3_vlek")
    above = {"Milan": {"bootloader": 4, "snp": 24, "microcode": 218}}
    caught = refused(evidence, snp_policy(evidence, tcb_floors=above), snp_report_data(evidence))
    assert caught.code == "tcb"
    assert "reported microcode version: found 217; allowed is 218 or more" in str(caught)


def test_verify_snp__debug_unnamed_cloud_and_versions_that_say_too_little() -> None:
    debug = snp_evidence("gosev_milan_v2_debug")
    assert refused(debug, snp_policy(debug, allow_debug=False), snp_report_data(debug)).code == "debug"
    assert refused(debug, snp_policy(debug, report_version_floor=3), snp_report_data(debug)).code == "report-version"
    cloud = snp_evidence("trustee_milan_v3_vlek")
    assert refused(cloud, snp_policy(cloud, clouds=()), snp_report_data(cloud)).code == "cloud"


def test_verify_snp__multithreading() -> None:
    evidence = snp_evidence("oak_genoa_v5")
    assert refused(evidence, snp_policy(evidence, allow_smt=False), snp_report_data(evidence)).code == "smt"


def test_verify_snp__certificates_and_lists_out_of_date_or_missing() -> None:
    evidence = snp_evidence("oak_genoa_v5")
    policy, expected = snp_policy(evidence), snp_report_data(evidence)
    early = datetime.datetime(2025, 8, 1, tzinfo=datetime.UTC)
    late = datetime.datetime(2025, 11, 4, tzinfo=datetime.UTC)
    assert refused(evidence, policy, expected, early).code == "certificate-dates"
    assert refused(evidence, policy, expected, late).code == "revocation-list-dates"
    old = snp_policy(evidence, revocation_list_days=300)
    assert refused(evidence, old, expected).code == "revocation-list-dates"
    bare = dataclasses.replace(
        evidence, files={name: content for name, content in evidence.files.items() if name != "revoked.crl"}
    )
    assert refused(bare, policy, expected).code == "revocation-list"
    milan = with_file(evidence, "revoked.crl", snp_file("openpcc_milan.crl.der"))
    assert refused(milan, policy, expected).code == "revocation-list"


def test_verify_evidence__bound_to_something_else() -> None:
    for evidence, policy, time in (
        (snp_evidence("oak_genoa_v5"), snp_policy(snp_evidence("oak_genoa_v5")), SNP_TIME),
        (intel_evidence("tdx_quote"), intel_policy(intel_evidence("tdx_quote")), INTEL_TIME),
    ):
        assert refused(evidence, policy, bytes(64), time).code == "binding"
        assert refused(evidence, policy, b"", time).code == "binding"


@pytest.mark.parametrize(
    ("code", "name", "changes"),
    [
        ("measurement", "sgx_quote", {"measurements": ("00" * 32,)}),
        ("guest-svn", "sgx_quote", {"svn_floor": 60_000}),
        ("quote", "sgx_quote", {"tcb_statuses": ("UpToDate",)}),
        ("quote", "sgx_quote", {"rejected_advisories": ("INTEL-SA-00615",)}),
        ("quote", "sgx_quote", {"tcb_evaluation_floor": 18}),
        ("quote", "tdx_quote", {"allow_dynamic_platform": False}),
        ("quote", "tdx_quote", {"allow_cached_keys": False}),
        ("quote", "tdx_quote", {"allow_smt": False}),
        ("measurement", "tdx_quote", {"measurements": ({"mr_td": "00" * 48, "rtmr1": "00" * 48, "rtmr2": "00" * 48},)}),
    ],
)
def test_verify_intel__what_the_policy_does_not_allow(code: str, name: str, changes: dict) -> None:
    evidence = intel_evidence(name)
    assert refused(evidence, intel_policy(evidence, **changes), intel_report_data(evidence), INTEL_TIME).code == code


def test_verify_intel__a_kernel_that_is_not_the_image_s() -> None:
    evidence = intel_evidence("tdx_quote")
    tdx = intel_policy(evidence).tdx
    assert tdx is not None
    other = tdx.measurements[0].model_copy(update={"rtmr2": "00" * 48})
    caught = refused(evidence, intel_policy(evidence, measurements=(other,)), intel_report_data(evidence), INTEL_TIME)
    assert caught.code == "measurement"
    assert "RTMR" in str(caught)


def test_verify_evidence__a_platform_that_is_not_named() -> None:
    evidence, other = snp_evidence("oak_genoa_v5"), intel_evidence("sgx_quote")
    assert refused(evidence, intel_policy(other), snp_report_data(evidence)).code == "platform"
    assert refused(other, snp_policy(evidence), intel_report_data(other), INTEL_TIME).code == "platform"
    # Not even under another platform's name.
    named: Callable[[str], Evidence] = lambda name: dataclasses.replace(other, platform=name)  # type: ignore[arg-type]  # noqa: E731
    tdx = intel_policy(intel_evidence("tdx_quote"))
    assert refused(named("tdx"), tdx, intel_report_data(other), INTEL_TIME).code == "platform"
