"""Verify a report of AMD SEV-SNP: offline, from roots that ship with fedcall, refusing whatever is not allowed.

Steps: AMD publication 57230, "VCEK Certificate and KDS Interface Specification" (certificates and their extensions);
publication 56860 (the report). A report is no unique name: the twin of an ECDSA signature, (r, n - s), verifies too, so
replay is told by the nonce in `report_data`, never by a report's bytes.
"""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from fedcall.attestation.certificates import (
    pinned_root,
    read_certificate,
    read_chain,
    read_revocation_list,
    require_current,
    require_signed_by,
)
from fedcall.attestation.checks import Checks, EvidenceRefused
from fedcall.attestation.policy import Generation, SnpPolicy
from fedcall.attestation.snp_report import SnpReport, TcbParts, generation_of, read_report

_EXTENSIONS = "1.3.6.1.4.1.3704.1."
_SVN_EXTENSIONS = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
_GENERATIONS: tuple[Generation, ...] = ("Milan", "Genoa", "Turin")


@dataclass(frozen=True)
class SnpEvidence:
    """Bytes of one report with what endorses it."""

    report: bytes
    key_certificate: bytes  # DER: the chip's key (VCEK) or a cloud's (VLEK)
    chain: bytes  # PEM: the intermediate certificate, then AMD's root
    revocation_list: bytes | None  # DER


@dataclass(frozen=True)
class SnpFacts:
    """What a verified report says."""

    generation: Generation
    firmware: str
    measurement: str
    chip: str


def verify_snp(
    evidence: SnpEvidence, policy: SnpPolicy, report_data: bytes, time: datetime.datetime, checks: Checks
) -> SnpFacts:
    """Verify a report.

    Parameters
    ----------
    evidence : SnpEvidence
        From anywhere; nothing of it is trusted.
    policy : SnpPolicy
        What is allowed.
    report_data : bytes
        64 bytes that the report must carry, computed by the verifier (see `binding`).
    time : datetime
        When, with a time zone.
    checks : Checks
        Receives every check that holds.

    Raises
    ------
    EvidenceRefused
        At the first check that fails.
    """
    report = read_report(evidence.report)
    key = read_certificate(evidence.key_certificate, "key-certificate")
    generation = _require_chain(evidence, key, policy, time, checks)
    _require_signature(report, key, checks)
    tcbs = report.tcbs(generation)
    _require_same_machine(report, key, generation, tcbs["reported"], policy, checks)
    _require_firmware(report, generation, tcbs, policy, checks)
    _require_guest(report, policy, report_data, checks)
    major, minor, build = report.current_firmware
    return SnpFacts(generation, f"{major}.{minor}.{build}", report.measurement.hex(), report.chip_id.hex())


def _require_chain(
    evidence: SnpEvidence, key: x509.Certificate, policy: SnpPolicy, time: datetime.datetime, checks: Checks
) -> Generation:
    chain = read_chain(evidence.chain, "chain")
    checks.require(
        len(chain) == 2, "chain", "certificates in the chain", allowed="2 (intermediate, root)", found=str(len(chain))
    )
    intermediate, root = chain
    generation = next((name for name in _GENERATIONS if pinned_root(f"ark-{name.lower()}") == root), None)
    if generation is None:
        raise EvidenceRefused("root", "the root certificate is none of AMD's for Milan, Genoa or Turin")
    checks.require(
        generation in policy.tcb_floors,
        "generation",
        "generation of the processor",
        allowed=" or ".join(sorted(policy.tcb_floors)),
        found=generation,
    )
    require_signed_by(checks, root, root, "root", "AMD's root certificate")
    require_signed_by(checks, intermediate, root, "intermediate", "AMD's intermediate certificate")
    require_signed_by(checks, key, intermediate, "key-certificate", "the certificate of the processor's key")
    for certificate, what in ((root, "the root"), (intermediate, "the intermediate"), (key, "the processor's key")):
        require_current(checks, certificate, time, what)
    if evidence.revocation_list is None:
        checks.require(
            policy.revocation_list != "required",
            "revocation-list",
            "AMD's revocation list",
            allowed=policy.revocation_list,
            found="none",
        )
    else:
        _require_not_revoked(evidence.revocation_list, root, intermediate, policy, time, checks)
    return generation


def _require_not_revoked(
    der: bytes,
    root: x509.Certificate,
    intermediate: x509.Certificate,
    policy: SnpPolicy,
    time: datetime.datetime,
    checks: Checks,
) -> None:
    revoked = read_revocation_list(der, "revocation-list")
    require_signed_by(checks, revoked, root, "revocation-list", "AMD's revocation list")
    first, last = revoked.last_update_utc, revoked.next_update_utc
    oldest = time - datetime.timedelta(days=policy.revocation_list_days)
    checks.require(
        last is not None and max(first, oldest) <= time <= last and first >= oldest,
        "revocation-list-dates",
        "time of verification and the dates of the revocation list",
        allowed=f"{first:%Y-%m-%d} to {last or first:%Y-%m-%d}, at most {policy.revocation_list_days} days old",
        found=f"{time:%Y-%m-%d %H:%M}",
    )
    is_revoked = revoked.get_revoked_certificate_by_serial_number(intermediate.serial_number) is not None
    checks.require(
        not is_revoked,
        "revoked",
        "AMD's intermediate certificate",
        allowed="one that is not revoked",
        found=f"serial number {intermediate.serial_number}, {'revoked' if is_revoked else 'not revoked'}",
    )


def _require_signature(report: SnpReport, key: x509.Certificate, checks: Checks) -> None:
    public = key.public_key()
    is_p384 = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP384R1)
    checks.require(
        is_p384, "signature", "the processor's key", allowed="ECDSA P-384", found="P-384" if is_p384 else "other"
    )
    assert isinstance(public, ec.EllipticCurvePublicKey)
    try:
        public.verify(utils.encode_dss_signature(*report.signature), report.signed, ec.ECDSA(hashes.SHA384()))
        valid = True
    except InvalidSignature:
        valid = False
    found = "valid" if valid else "not by this key, or of other content"
    checks.require(valid, "signature", "signature of the report", allowed="by the processor's key", found=found)


def _require_same_machine(
    report: SnpReport,
    key: x509.Certificate,
    generation: Generation,
    reported: TcbParts,
    policy: SnpPolicy,
    checks: Checks,
) -> None:
    """Require that the report's own words agree with the certificate of the key that signed it."""
    product = _extension(key, "2")
    named = product[2:].decode("ascii", "replace").split("-")[0] if product[:1] == b"\x16" else "other"
    checks.require(named == generation, "product", "product in the key's certificate", allowed=generation, found=named)
    if report.cpuid:
        family = generation_of(report.cpuid)
        found = f"family {report.cpuid[0]:#x}, model {report.cpuid[1]:#x}"
        checks.require(family == generation, "cpuid", "processor in the report", allowed=generation, found=found)
    for part, svn in reported.items():
        certified = _integer(_extension(key, _SVN_EXTENSIONS[part]))
        checks.require(
            certified == svn,
            "key-tcb",
            f"reported {part} version",
            allowed=f"the certificate's {certified}",
            found=str(svn),
        )
    if report.signing_key == "VCEK":
        hardware = _extension(key, "4")
        hardware = hardware[2:] if len(hardware) == 66 and hardware[:2] == b"\x04\x40" else hardware
        size = 8 if generation == "Turin" else 64
        shown = not report.chip_id_masked and any(report.chip_id)
        same = len(hardware) == size and report.chip_id == hardware.ljust(64, b"\0")
        found = f"{report.chip_id.hex()[:16]}…" if shown else "masked"
        checks.require(shown and same, "chip", "chip", allowed=f"the certificate's {hardware.hex()[:16]}…", found=found)
        allowed = policy.chips is None or report.chip_id.hex() in policy.chips
        named_chips = "every chip of AMD's" if policy.chips is None else f"{len(policy.chips)} named chips"
        checks.require(allowed, "chip", "chip", allowed=named_chips, found=found)
    elif report.signing_key == "VLEK":
        cloud = _extension(key, "5")[2:].decode("utf-8", "replace")
        named_clouds = ", ".join(policy.clouds) or "none"
        checks.require(
            cloud in policy.clouds,
            "cloud",
            "cloud whose loaded key signed",
            allowed=named_clouds,
            found=repr(cloud[:80]),
        )
    else:
        raise EvidenceRefused("signing-key", "the report says that no key signed it")


def _require_firmware(
    report: SnpReport, generation: Generation, tcbs: dict[str, TcbParts], policy: SnpPolicy, checks: Checks
) -> None:
    floor = policy.tcb_floors[generation].model_dump()
    for name in ("reported", "committed", "launch"):
        for part, svn in tcbs[name].items():
            checks.require(
                svn >= floor[part], "tcb", f"{name} {part} version", allowed=f"{floor[part]} or more", found=str(svn)
            )
    lowest = tuple(int(part) for part in policy.firmware_floor.split("."))
    for name, version in (("current", report.current_firmware), ("committed", report.committed_firmware)):
        checks.require(
            version >= lowest,
            "firmware",
            f"{name} SEV firmware",
            allowed=f"{policy.firmware_floor} or newer",
            found=".".join(map(str, version)),
        )
    checks.require(
        report.version >= policy.report_version_floor,
        "report-version",
        "version of the report",
        allowed=f"{policy.report_version_floor} or more",
        found=str(report.version),
    )
    has_all = report.mitigations & policy.mitigations == policy.mitigations
    checks.require(
        has_all,
        "mitigations",
        "mitigations",
        allowed=f"all of {policy.mitigations:#x}",
        found=f"{report.mitigations:#x}",
    )


def _require_guest(report: SnpReport, policy: SnpPolicy, report_data: bytes, checks: Checks) -> None:
    checks.require_image(report.measurement.hex(), policy.measurements)
    checks.require_binding(report.report_data, report_data, "report")
    checks.require(
        report.vmpl == policy.vmpl, "vmpl", "privilege level", allowed=str(policy.vmpl), found=str(report.vmpl)
    )
    checks.require(
        policy.allow_debug or not report.may_debug,
        "debug",
        "debugging by the host",
        allowed="on or off" if policy.allow_debug else "off",
        found="on" if report.may_debug else "off",
    )
    has_agent = report.may_migrate or report.migration_agent not in (bytes(32), b"\xff" * 32)
    checks.require(not has_agent, "migration", "migration agent", allowed="none", found="one" if has_agent else "none")
    checks.require(
        policy.allow_smt or not report.may_use_smt,
        "smt",
        "simultaneous multithreading",
        allowed="on or off" if policy.allow_smt else "off",
        found="may be on" if report.may_use_smt else "off",
    )
    checks.require(
        report.guest_svn >= policy.guest_svn_floor,
        "guest-svn",
        "version that the image's owner gave",
        allowed=f"{policy.guest_svn_floor} or more",
        found=str(report.guest_svn),
    )
    host_data = report.host_data.hex()
    checks.require(
        policy.host_data in (None, host_data),
        "host-data",
        "what the host declared",
        allowed=policy.host_data or "anything",
        found=host_data,
    )
    _require_key(checks, "id-key", "key that signed the image", report.id_key_digest, policy.id_keys, signed=True)
    _require_key(
        checks,
        "author-key",
        "key that certified the image's key",
        report.author_key_digest,
        policy.author_keys,
        signed=report.author_key_enabled,
    )


def _require_key(
    checks: Checks, code: str, what: str, digest: bytes, allowed: tuple[str, ...] | None, *, signed: bool
) -> None:
    holds = allowed is None or (signed and any(digest) and digest.hex() in allowed)
    said = "any or none" if allowed is None else ", ".join(f"{one[:16]}…" for one in allowed)
    checks.require(holds, code, what, allowed=said, found=f"{digest.hex()[:16]}…" if signed and any(digest) else "none")


def _extension(certificate: x509.Certificate, number: str) -> bytes:
    wanted = x509.ObjectIdentifier(_EXTENSIONS + number)
    try:
        value = certificate.extensions.get_extension_for_oid(wanted).value
    except (x509.ExtensionNotFound, ValueError):
        raise EvidenceRefused("key-certificate", f"the key's certificate lacks AMD's extension {number}") from None
    assert isinstance(value, x509.UnrecognizedExtension)
    return value.value


def _integer(der: bytes) -> int:
    """Return a small DER integer."""
    if len(der) < 3 or der[0] != 2 or der[1] != len(der) - 2 or der[1] > 2 or der[2] >= 0x80:
        raise EvidenceRefused("key-certificate", "a version in the key's certificate is not a small number")
    return int.from_bytes(der[2:], "big")
