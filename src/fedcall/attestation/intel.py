"""Verify a quote of Intel SGX or TDX: signatures and Intel's collateral by dcap-qvl, everything else here."""

import datetime
import json
from dataclasses import dataclass

import dcap_qvl

from fedcall.attestation.checks import Checks, EvidenceRefused
from fedcall.attestation.intel_quote import EnclaveBody, platform_chain, read_collateral, read_quote
from fedcall.attestation.policy import SgxPolicy, TdxPolicy

_SGX_DEBUG = 0x02
_TD_UNTRUSTED = 0xFF  # byte 0 of TDATTRIBUTES: debug and the reserved bits beside it
_TD_SEPT_VE_DISABLE, _TD_MIGRATABLE = 28, 29


@dataclass(frozen=True)
class IntelEvidence:
    """Bytes of a quote and of what Intel says of its platform."""

    quote: bytes
    collateral: bytes  # JSON, see `intel_quote.read_collateral`


@dataclass(frozen=True)
class IntelFacts:
    """What a verified quote says."""

    platform: str  # SGX or TDX
    tcb_status: str
    measurement: str


def verify_intel(
    evidence: IntelEvidence,
    policy: SgxPolicy | TdxPolicy,
    report_data: bytes,
    time: datetime.datetime,
    checks: Checks,
) -> IntelFacts:
    """Verify a quote; parameters and errors as of `snp.verify_snp`."""
    body = read_quote(evidence.quote)
    name = "TDX" if isinstance(policy, TdxPolicy) else "SGX"
    found = "TDX" if body.is_tdx else "SGX"
    checks.require(found == name, "platform", "kind of the quote", allowed=name, found=found)
    collateral = read_collateral(evidence.collateral, platform_chain(evidence.quote))
    status = _require_platform(evidence.quote, collateral, policy, time, checks)
    if isinstance(policy, TdxPolicy):
        _require_trust_domain(body, policy, checks)
    else:
        _require_enclave(body, policy, checks)
    checks.require_binding(body.report_data, report_data, "quote")
    return IntelFacts(name, status, body.measurement.hex())


def _require_platform(
    quote: bytes, collateral: str, policy: SgxPolicy | TdxPolicy, time: datetime.datetime, checks: Checks
) -> str:
    seconds = int(time.timestamp())
    strict = dcap_qvl.QuotePolicy.strict(seconds)
    for status in policy.tcb_statuses:
        strict = strict.allow_status(status)
    strict = (
        strict.reject_advisories(list(policy.rejected_advisories))
        .min_tcb_eval_data_number(policy.tcb_evaluation_floor)
        .allow_dynamic_platform(policy.allow_dynamic_platform)
        .allow_cached_keys(policy.allow_cached_keys)
        .allow_smt(policy.allow_smt)
    )
    try:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral)
        claims = json.loads(dcap_qvl.QuoteVerifier().verify_with_policy(quote, parsed, seconds, strict).to_json())
    except Exception as error:  # dcap-qvl raises ValueError; whatever else it raises is no acceptance either
        sentence = str(error).removeprefix("Verification failed: ")
        raise EvidenceRefused("quote", f"dcap-qvl refuses the quote: {sentence[:300]}") from None
    status = str(claims["tcb"]["status"])
    checks.require(
        status in policy.tcb_statuses,
        "tcb",
        "firmware of the processor, by Intel's word",
        allowed=" or ".join(policy.tcb_statuses),
        found=status,
    )
    return status


def _require_enclave(body: EnclaveBody, policy: SgxPolicy, checks: Checks) -> None:
    checks.require_image(body.measurement.hex(), policy.measurements)
    debug = bool(body.attributes[0] & _SGX_DEBUG)
    checks.require(not debug, "debug", "debugging by the host", allowed="off", found="on" if debug else "off")
    checks.require(
        body.svn >= policy.svn_floor,
        "guest-svn",
        "version that the image's owner gave",
        allowed=f"{policy.svn_floor} or more",
        found=str(body.svn),
    )


def _require_trust_domain(body: EnclaveBody, policy: TdxPolicy, checks: Checks) -> None:
    attributes = int.from_bytes(body.attributes, "little")
    debug = bool(attributes & _TD_UNTRUSTED)
    checks.require(not debug, "debug", "debugging by the host", allowed="off", found="on" if debug else "off")
    guarded = bool(attributes >> _TD_SEPT_VE_DISABLE & 1)
    checks.require(
        guarded, "sept-ve", "exceptions injected by the host", allowed="off", found="off" if guarded else "on"
    )
    movable = bool(attributes >> _TD_MIGRATABLE & 1)
    checks.require(not movable, "migration", "migration", allowed="off", found="on" if movable else "off")
    intel_module = not any(body.module_signer)
    checks.require(
        intel_module, "module", "signer of the TDX module", allowed="Intel", found="Intel" if intel_module else "other"
    )
    bound_to = any(body.service_domain)
    checks.require(
        not bound_to, "migration", "service domain bound to it", allowed="none", found="one" if bound_to else "none"
    )
    measurement = body.measurement.hex()
    checks.require_image(measurement, tuple(one.mr_td for one in policy.measurements))
    registers = tuple(register.hex() for register in body.registers)
    known = [one for one in policy.measurements if one.mr_td == measurement]
    matches = any(
        all(
            expected in (None, found)
            for expected, found in zip((one.rtmr0, one.rtmr1, one.rtmr2, one.rtmr3), registers, strict=True)
        )
        for one in known
    )
    checks.require(
        matches,
        "measurement",
        "kernel, command line and rest that the firmware measured (RTMR0 to 3)",
        allowed=f"those of {len(known)} images",
        found=", ".join(f"{register[:8]}…" for register in registers),
    )
