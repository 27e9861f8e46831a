"""Evidence of real machines (tests/attestation/vectors), and simulated AMD machines for what no real one shows."""

import datetime
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding

from fedcall.attestation.evidence import Evidence
from fedcall.attestation.policy import EvidencePolicy, SgxPolicy, SnpPolicy, TcbFloor, TdMeasurement, TdxPolicy
from fedcall.attestation.snp_report import read_report

VECTORS = Path(__file__).parents[1] / "attestation" / "vectors"
SNP_TIME = datetime.datetime(2025, 9, 1, tzinfo=datetime.UTC)
INTEL_TIME = datetime.datetime(2025, 6, 20, tzinfo=datetime.UTC)
SNP_NAMES = (
    "gosev_milan_v2_debug",
    "virtee_milan_v2",
    "trustee_milan_v2",
    "azure_milan_v2",
    "oak_milan_v3",
    "trustee_milan_v3_vlek",
    "azure_genoa",
    "oak_genoa_v5",
    "oak_turin_v5",
)


def snp_file(name: str) -> bytes:
    return (VECTORS / "snp" / name).read_bytes()


def dcap_file(name: str) -> bytes:
    return (VECTORS / "dcap" / name).read_bytes()


def snp_evidence(name: str) -> Evidence:
    """Return the evidence of a real machine, with AMD's revocation list where one is at hand (none for Turin)."""
    milan, genoa = snp_file("gosev_ask_ark_milan.pem"), snp_file("gosev_ask_ark_genoa.pem")
    turin = plain(snp_file("oak_ask_turin.pem")) + plain(snp_file("oak_ark_turin.pem"))
    azure = json.loads(snp_file("trustee_az_evidence-genoa.json")) if name == "azure_genoa" else {}
    report, key, chain = {
        "gosev_milan_v2_debug": lambda: (snp_file("gosev_attestation.bin"), snp_file("gosev_vcek.testcer"), milan),
        "virtee_milan_v2": lambda: (
            bytes.fromhex(snp_file("virtee_report_milan.hex").decode()),
            snp_file("virtee_vcek_milan.der"),
            milan,
        ),
        "trustee_milan_v2": lambda: (snp_file("trustee_test-report.bin"), snp_file("trustee_test-vcek.der"), milan),
        "azure_milan_v2": lambda: (
            snp_file("trustee_az_hcl-report.bin")[32:1216],
            der(snp_file("trustee_az_vcek.pem")),
            milan,
        ),
        "oak_milan_v3": lambda: (
            snp_file("oak_milan_oc_release_report.bin"),
            snp_file("oak_milan_oc_release_vcek.der"),
            milan,
        ),
        "trustee_milan_v3_vlek": lambda: (
            snp_file("trustee_test-vlek-report.bin"),
            snp_file("trustee_test-vlek.der"),
            snp_file("gosev_ask_ark_milan_vlek.pem"),
        ),
        "azure_genoa": lambda: (bytes(azure["report"][32:1216]), der(azure["vcek"].encode()), genoa),
        "oak_genoa_v5": lambda: (snp_file("oak_genoa_oc_report.bin"), snp_file("oak_genoa_oc_vcek.der"), genoa),
        "oak_turin_v5": lambda: (snp_file("oak_turin_oc_report.bin"), snp_file("oak_turin_oc_vcek.der"), turin),
    }[name]()
    files = {"report.bin": report, "key.der": key, "chain.pem": chain}
    if "milan" in name or "genoa" in name:
        files["revoked.crl"] = snp_file(f"openpcc_{'milan' if 'milan' in name else 'genoa'}.crl.der")
    return Evidence("sev-snp", files)


def snp_policy(evidence: Evidence, **changes: Any) -> EvidencePolicy:
    """Return a policy that fits a report as tightly as its own words allow, with changes."""
    report = read_report(evidence.files["report.bin"])
    root = x509.load_pem_x509_certificates(evidence.files["chain.pem"])[1]
    generation = str(root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value).removeprefix("ARK-")
    tcbs = report.tcbs(generation)  # type: ignore[arg-type]
    floor = {part: min(tcbs[name][part] for name in ("reported", "committed", "launch")) for part in tcbs["reported"]}
    terms: dict[str, Any] = {
        "measurements": (report.measurement.hex(),),
        "tcb_floors": {generation: TcbFloor(**floor)},
        "firmware_floor": ".".join(map(str, min(report.current_firmware, report.committed_firmware))),
        "report_version_floor": report.version,
        "vmpl": report.vmpl,
        "allow_debug": report.may_debug,
        "guest_svn_floor": report.guest_svn,
        "clouds": (cloud_of(evidence),) if report.signing_key == "VLEK" else (),
        "chips": None if report.signing_key == "VLEK" else (report.chip_id.hex(),),
        "host_data": report.host_data.hex(),
        "revocation_list": "required" if "revoked.crl" in evidence.files else "if there",
    }
    return EvidencePolicy(snp=SnpPolicy(**(terms | changes)))


def snp_report_data(evidence: Evidence) -> bytes:
    return read_report(evidence.files["report.bin"]).report_data


def cloud_of(evidence: Evidence) -> str:
    certificate = x509.load_der_x509_certificate(evidence.files["key.der"])
    extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.3704.1.5"))
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    return extension.value.value[2:].decode()


def intel_evidence(name: str) -> Evidence:
    platform: Any = name.split("_")[0]
    return Evidence(platform, {"quote.bin": dcap_file(name), "collateral.json": dcap_file(f"{name}_collateral.json")})


def intel_policy(evidence: Evidence, **changes: Any) -> EvidencePolicy:
    from fedcall.attestation.intel_quote import read_quote

    body = read_quote(evidence.files["quote.bin"])
    if body.is_tdx:
        zero, one, two, three = (register.hex() for register in body.registers)
        measurement = TdMeasurement(mr_td=body.measurement.hex(), rtmr0=zero, rtmr1=one, rtmr2=two, rtmr3=three)
        terms: dict[str, Any] = {
            "measurements": (measurement,),
            "allow_dynamic_platform": True,
            "allow_cached_keys": True,
        }
        return EvidencePolicy(tdx=TdxPolicy(**(terms | changes)))
    terms = {
        "measurements": (body.measurement.hex(),),
        "tcb_statuses": ("ConfigurationAndSWHardeningNeeded",),
        "svn_floor": body.svn,
    }
    return EvidencePolicy(sgx=SgxPolicy(**(terms | changes)))


def intel_report_data(evidence: Evidence) -> bytes:
    from fedcall.attestation.intel_quote import read_quote

    return read_quote(evidence.files["quote.bin"]).report_data


def plain(pem: bytes) -> bytes:
    """Return certificates in plain PEM form."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in x509.load_pem_x509_certificates(pem))


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)


# --- a machine of nobody's, whose keys we have


_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
_NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


@dataclass
class MadeUpGenoa:
    """A Genoa machine with a root of its own: what it signs is genuine for whoever trusts that root (tests only)."""

    root_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 4096))
    authority_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 4096))
    chip_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    chip: bytes = field(default_factory=lambda: os.urandom(64))

    def __post_init__(self) -> None:
        self.root = self._certificate("ARK-Genoa", self.root_key.public_key(), "ARK-Genoa", self.root_key, 1)
        self.authority = self._certificate("SEV-Genoa", self.authority_key.public_key(), "ARK-Genoa", self.root_key, 2)
        self.key = self.key_certificate()

    @property
    def time(self) -> datetime.datetime:
        return _NOW

    def key_certificate(self, snp: int = 25, product: bytes = b"Genoa") -> x509.Certificate:
        extensions = {
            "2": b"\x16" + bytes([len(product)]) + product,
            "3.1": b"\x02\x01\x0a",
            "3.2": b"\x02\x01\x00",
            "3.3": bytes([2, 1, snp]),
            "3.8": b"\x02\x01\x54",
            "4": self.chip,
        }
        public = self.chip_key.public_key()
        return self._certificate("SEV-VCEK", public, "SEV-Genoa", self.authority_key, 3, extensions)

    def revocation_list(self, *revoked: int) -> bytes:
        builder = x509.CertificateRevocationListBuilder(
            issuer_name=_name("ARK-Genoa"),
            last_update=_NOW - datetime.timedelta(days=1),
            next_update=_NOW + datetime.timedelta(days=30),
        )
        for serial in revoked:
            one = x509.RevokedCertificateBuilder(serial, _NOW - datetime.timedelta(days=1)).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self.root_key, hashes.SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)

    def report(self, report_data: bytes, **changes: Any) -> bytes:
        values = {
            "policy": 0x30000,
            "measurement": bytes(range(48)),
            "tcb": bytes([10, 0, 0, 0, 0, 0, 25, 84]),
            "vmpl": 0,
            "cpuid": bytes([0x19, 0x11, 1]),
            "agent": b"\xff" * 32,
            "firmware": bytes([43, 55, 1]),
            "signer": 0,
            "chip": self.chip,
        } | changes
        raw = bytearray(1184)
        raw[0], raw[0x34], raw[0x30], raw[0x48] = 5, 1, values["vmpl"], values["signer"]
        raw[0x08:0x10] = values["policy"].to_bytes(8, "little")
        for place in (0x38, 0x180, 0x1E0, 0x1F0):
            raw[place : place + 8] = values["tcb"]
        raw[0x50:0x90], raw[0x90:0xC0] = report_data, values["measurement"]
        raw[0x160:0x180], raw[0x188:0x18B], raw[0x1A0:0x1E0] = values["agent"], values["cpuid"], values["chip"]
        raw[0x1E8:0x1EB] = raw[0x1EC:0x1EF] = values["firmware"]
        signature = self.chip_key.sign(bytes(raw[:0x2A0]), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(signature)
        raw[0x2A0:0x2D0], raw[0x2E8:0x318] = r.to_bytes(48, "little"), s.to_bytes(48, "little")
        return bytes(raw)

    def evidence(self, report: bytes, revoked: bytes | None = None, key: x509.Certificate | None = None) -> Evidence:
        chain = self.authority.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)
        files = {
            "report.bin": report,
            "key.der": (key or self.key).public_bytes(Encoding.DER),
            "chain.pem": chain,
            "revoked.crl": revoked or self.revocation_list(),
        }
        return Evidence("sev-snp", files)

    def policy(self, **changes: Any) -> EvidencePolicy:
        terms: dict[str, Any] = {
            "measurements": (bytes(range(48)).hex(),),
            "tcb_floors": {"Genoa": TcbFloor(bootloader=10, snp=25, microcode=84)},
            "firmware_floor": "1.55.43",
        }
        return EvidencePolicy(snp=SnpPolicy(**(terms | changes)))

    @staticmethod
    def _certificate(
        name: str,
        public: Any,
        issuer: str,
        key: rsa.RSAPrivateKey,
        serial: int,
        extensions: dict[str, bytes] | None = None,
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            _name(issuer),
            _name(name),
            public,
            serial,
            _NOW - datetime.timedelta(days=1),
            _NOW + datetime.timedelta(days=365),
        )
        for number, value in (extensions or {}).items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.3704.1.{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return builder.sign(key, hashes.SHA384(), rsa_padding=_PSS)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "MADE UP FOR TESTS"),
        ]
    )
