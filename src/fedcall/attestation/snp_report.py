"""The attestation report of AMD SEV-SNP, as its firmware writes it: 1,184 bytes, read strictly.

Layout: AMD publication 56860, "SEV Secure Nested Paging Firmware ABI Specification", revision 1.58, table 23
(ATTESTATION_REPORT) and tables 9 and 10 (guest policy, TCB version). Reserved bytes must be zero, so that no byte of a
report goes unread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fedcall.attestation.checks import EvidenceRefused

REPORT_BYTES = 1184
SIGNED_BYTES = 0x2A0

Generation = Literal["Milan", "Genoa", "Turin"]
TcbParts = Mapping[str, int]
"""Security version of each part of the firmware: bootloader, tee, snp, microcode, and fmc on Turin."""


@dataclass(frozen=True)
class SnpReport:
    """The fields of a report that a verification looks at; nothing here is trusted before the signature is checked."""

    version: int
    guest_svn: int
    policy: int
    vmpl: int
    platform_info: int
    author_key_enabled: bool
    chip_id_masked: bool
    signing_key: str  # VCEK, VLEK or none
    report_data: bytes  # 64 bytes
    measurement: bytes  # 48 bytes
    host_data: bytes  # 32 bytes
    id_key_digest: bytes  # 48 bytes
    author_key_digest: bytes  # 48 bytes
    migration_agent: bytes  # 32 bytes
    cpuid: tuple[int, int, int] | None  # family, model, stepping; reports from version 3 on
    chip_id: bytes  # 64 bytes
    current_firmware: tuple[int, int, int]  # major, minor, build
    committed_firmware: tuple[int, int, int]
    mitigations: int  # vector of the current firmware; reports from version 5 on
    raw_tcbs: Mapping[str, bytes]  # current, reported, committed, launch
    signature: tuple[int, int]  # r, s of ECDSA P-384
    signed: bytes

    @property
    def may_debug(self) -> bool:
        """Whether the host may read and write the guest's memory."""
        return bool(self.policy >> 19 & 1)

    @property
    def may_migrate(self) -> bool:
        """Whether a migration agent may move the guest."""
        return bool(self.policy >> 18 & 1)

    @property
    def may_use_smt(self) -> bool:
        """Whether the guest runs where simultaneous multithreading is on."""
        return bool(self.policy >> 16 & 1)

    def tcbs(self, generation: Generation) -> dict[str, TcbParts]:
        """Return the security versions of the current, reported, committed and launch firmware."""
        return {name: _tcb_parts(raw, generation) for name, raw in self.raw_tcbs.items()}


def read_report(raw: bytes) -> SnpReport:
    """Read a report.

    Raises
    ------
    EvidenceRefused
        With code `report-format`, if its length, its version, or a byte that must be zero is not as specified.
    """

    def number(start: int, size: int) -> int:
        return int.from_bytes(raw[start : start + size], "little")

    _need(len(raw) == REPORT_BYTES, f"{len(raw)} bytes, {REPORT_BYTES} expected")
    version = number(0x00, 4)
    _need(2 <= version <= 5, f"version {version}, 2 to 5 expected")
    _need(number(0x34, 4) == 1, f"signature algorithm {number(0x34, 4)}, 1 (ECDSA P-384 with SHA-384) expected")
    signer = number(0x48, 4)
    _need(signer >> 5 == 0, "reserved bits of the signer's field are set")
    _need(number(0x4C, 4) == 0, "reserved bytes at 0x4c are set")
    policy = number(0x08, 8)
    _need(bool(policy >> 17 & 1), "reserved bit 17 of the guest policy is not 1")
    _need(policy >> 26 == 0, "reserved bits of the guest policy are set")
    reserved = 0x18B if version >= 3 else 0x188
    _need(not any(raw[reserved:0x1A0]), f"reserved bytes at {reserved:#x} are set")
    _need(raw[0x1EB] == 0 and raw[0x1EF] == 0, "reserved bytes beside the firmware's version are set")
    tail = 0x208 if version >= 5 else 0x1F8
    _need(not any(raw[tail:SIGNED_BYTES]), f"reserved bytes at {tail:#x} are set")
    signature = raw[SIGNED_BYTES:]
    _need(not any(signature[48:72]) and not any(signature[120:]), "bytes beside the signature are set")
    return SnpReport(
        version=version,
        guest_svn=number(0x04, 4),
        policy=policy,
        vmpl=number(0x30, 4),
        platform_info=number(0x40, 8),
        author_key_enabled=bool(signer & 1),
        chip_id_masked=bool(signer >> 1 & 1),
        signing_key={0: "VCEK", 1: "VLEK"}.get(signer >> 2 & 7, "none"),
        report_data=raw[0x50:0x90],
        measurement=raw[0x90:0xC0],
        host_data=raw[0xC0:0xE0],
        id_key_digest=raw[0xE0:0x110],
        author_key_digest=raw[0x110:0x140],
        migration_agent=raw[0x160:0x180],
        cpuid=(raw[0x188], raw[0x189], raw[0x18A]) if version >= 3 else None,
        chip_id=raw[0x1A0:0x1E0],
        current_firmware=(raw[0x1EA], raw[0x1E9], raw[0x1E8]),
        committed_firmware=(raw[0x1EE], raw[0x1ED], raw[0x1EC]),
        mitigations=number(0x200, 8) if version >= 5 else 0,
        raw_tcbs={name: raw[start : start + 8] for name, start in _TCB_PLACES.items()},
        signature=(int.from_bytes(signature[:48], "little"), int.from_bytes(signature[72:120], "little")),
        signed=raw[:SIGNED_BYTES],
    )


def generation_of(cpuid: tuple[int, int, int]) -> Generation | None:
    """Return the generation of a processor by its CPUID family and model; None for one that is not known here."""
    family, model, _ = cpuid
    if family == 0x19 and model <= 0x0F:
        return "Milan"
    if family == 0x19 and (0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF):
        return "Genoa"
    return "Turin" if family == 0x1A and model <= 0x11 else None


_TCB_PLACES = {"current": 0x38, "reported": 0x180, "committed": 0x1E0, "launch": 0x1F0}


def _tcb_parts(raw: bytes, generation: Generation) -> TcbParts:
    if generation == "Turin":
        _need(not any(raw[4:7]), "reserved bytes of a TCB version are set")
        return {"fmc": raw[0], "bootloader": raw[1], "tee": raw[2], "snp": raw[3], "microcode": raw[7]}
    _need(not any(raw[2:6]), "reserved bytes of a TCB version are set")
    return {"bootloader": raw[0], "tee": raw[1], "snp": raw[6], "microcode": raw[7]}


def _need(holds: bool, problem: str) -> None:
    if not holds:
        raise EvidenceRefused("report-format", f"not a report of SEV-SNP: {problem}")
