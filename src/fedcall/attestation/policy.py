"""Which evidence is accepted: written by the coordinator, read by people, part of what a study's sites sign.

Whatever a policy does not allow is refused. `words` says a policy in sentences.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document

Generation = Literal["Milan", "Genoa", "Turin"]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hex48 = Annotated[str, Field(pattern=r"^[0-9a-f]{96}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Svn = Annotated[int, Field(ge=0, le=255)]


class TcbFloor(Document):
    """Lowest security version of each part of a processor's firmware."""

    bootloader: Svn
    tee: Svn = 0
    snp: Svn
    microcode: Svn
    fmc: Svn | None = Field(None, description="Turin only.")


class SnpPolicy(Document):
    """AMD SEV-SNP."""

    measurements: Annotated[tuple[Hex48, ...], Field(min_length=1)] = Field(
        description="Launch digests of the images that may run, SHA-384 in hexadecimal."
    )
    tcb_floors: Annotated[dict[Generation, TcbFloor], Field(min_length=1)] = Field(
        description="Processor generations that are allowed, each with its floor; it holds for the reported, the"
        " committed and the launch firmware."
    )
    firmware_floor: Annotated[str, Field(pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$")] = Field(
        "1.55.0", description="Lowest SEV firmware, major.minor.build; current and committed."
    )
    report_version_floor: Annotated[int, Field(ge=2, le=5)] = Field(
        3, description="Version 2 does not name the processor's family, so that it cannot be checked."
    )
    vmpl: Annotated[int, Field(ge=0, le=3)] = Field(0, description="Privilege level that asked for the report.")
    allow_smt: bool = Field(True, description="Whether simultaneous multithreading may be on.")
    guest_svn_floor: Annotated[int, Field(ge=0)] = Field(0, description="Lowest version that the image's owner gave.")
    chips: tuple[Hex64, ...] | None = Field(None, description="Chips that are allowed; left out: every chip of AMD's.")
    clouds: tuple[str, ...] = Field((), description="Clouds whose loaded keys (VLEK) are allowed, by AMD's name.")
    host_data: Hex32 | None = Field(None, description="What the host must have declared at launch.")
    id_keys: tuple[Hex48, ...] | None = Field(None, description="Digests of keys, one of which signed the image.")
    author_keys: tuple[Hex48, ...] | None = Field(None, description="Digests of keys, one of which certified that key.")
    mitigations: Annotated[int, Field(ge=0, lt=2**64)] = Field(
        0, description="Bits that must be set in the firmware's vector of mitigations; reports from version 5 on."
    )
    revocation_list: Literal["required", "if there"] = Field(
        "required", description="AMD's list for the generation. Without it, a revoked intermediate key goes unnoticed."
    )
    revocation_list_days: Annotated[int, Field(ge=1)] = Field(
        400, description="Oldest list that is accepted, in days, whatever date it gives itself."
    )
    allow_debug: bool = Field(False, description="For trials only: the host of such a guest reads all of its memory.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for generation, floor in self.tcb_floors.items():
            if (floor.fmc is not None) != (generation == "Turin"):
                raise ValueError(f"tcb_floors.{generation}: fmc belongs to Turin, and Turin needs it")
        return self


class SgxPolicy(Document):
    """Intel SGX."""

    measurements: Annotated[tuple[Hex32, ...], Field(min_length=1)] = Field(description="MRENCLAVE that may run.")
    svn_floor: Annotated[int, Field(ge=0)] = Field(0, description="Lowest ISV SVN.")
    tcb_statuses: tuple[str, ...] = Field(
        ("UpToDate",), description="What Intel may say of the processor's firmware, by Intel's words."
    )
    rejected_advisories: tuple[str, ...] = Field((), description="INTEL-SA numbers that must not apply.")
    tcb_evaluation_floor: Annotated[int, Field(ge=0)] = Field(0, description="Oldest of Intel's evaluations accepted.")
    allow_smt: bool = Field(True, description="Whether hyperthreading may be on.")
    allow_dynamic_platform: bool = Field(False, description="Whether packages may be added to the machine later.")
    allow_cached_keys: bool = Field(False, description="Whether Intel may keep the platform's root keys.")


class TdMeasurement(Document):
    """What was loaded into a trust domain: its firmware, and the kernel, command line and rest that it measured."""

    mr_td: Hex48
    rtmr0: Hex48 | None = None
    rtmr1: Hex48
    rtmr2: Hex48
    rtmr3: Hex48 = "0" * 96


class TdxPolicy(Document):
    """Intel TDX."""

    measurements: Annotated[tuple[TdMeasurement, ...], Field(min_length=1)]
    tcb_statuses: tuple[str, ...] = SgxPolicy.model_fields["tcb_statuses"].default
    rejected_advisories: tuple[str, ...] = ()
    tcb_evaluation_floor: Annotated[int, Field(ge=0)] = 0
    allow_smt: bool = True
    allow_dynamic_platform: bool = False
    allow_cached_keys: bool = False


class SimulatedPolicy(Document):
    """A simulated platform: it protects nothing, and serves rehearsals and tests."""

    root: Hex32 = Field(description="SHA-256 of the simulated root's public key.")
    measurements: Annotated[tuple[Hex48, ...], Field(min_length=1)]


class EvidencePolicy(Document):
    """Platforms that may hold an aggregator's enclave; a platform left out is refused."""

    snp: SnpPolicy | None = None
    sgx: SgxPolicy | None = None
    tdx: TdxPolicy | None = None
    simulated: SimulatedPolicy | None = None

    @model_validator(mode="after")
    def _names_a_platform(self) -> Self:
        real = [self.snp, self.sgx, self.tdx]
        if not any(real) and self.simulated is None:
            raise ValueError("no platform is allowed; name snp, sgx, tdx or simulated")
        if any(real) and self.simulated is not None:
            raise ValueError("simulated stands beside a real platform; a policy is for one or the other")
        return self


def words(policy: EvidencePolicy) -> list[str]:
    """Return what a policy allows, in sentences, weakest points first."""
    said = []
    if policy.simulated:
        said.append("SIMULATED platform: it protects nothing; for rehearsals and tests only.")
    if snp := policy.snp:
        if snp.allow_debug:
            said.append("SEV-SNP: debugging is ALLOWED, so the host reads all memory: this protects nothing.")
        if snp.revocation_list != "required":
            said.append("SEV-SNP: a revoked key of AMD's goes unnoticed where no revocation list is given.")
        if snp.report_version_floor < 3:
            said.append("SEV-SNP: reports that do not name the processor's family are accepted.")
        floors = "; ".join(
            f"{generation} (" + ", ".join(f"{part} {svn}" for part, svn in floor) + ")"
            for generation, floor in ((name, _parts(floor)) for name, floor in sorted(snp.tcb_floors.items()))
        )
        said += [
            f"SEV-SNP: processors {floors}; SEV firmware {snp.firmware_floor} or newer.",
            f"SEV-SNP: {_images(snp.measurements)}; multithreading {_may(snp.allow_smt)};"
            f" {'every chip of AMD' if snp.chips is None else f'{len(snp.chips)} named chips'};"
            f" keys loaded by clouds: {', '.join(snp.clouds) or 'none'}.",
        ]
    if policy.sgx:
        said += [f"SGX: {_images(policy.sgx.measurements)}.", _intel("SGX", policy.sgx)]
    if policy.tdx:
        said += [f"TDX: {len(policy.tdx.measurements)} images by firmware, kernel and command line."]
        said += [_intel("TDX", policy.tdx)]
    return said


def _parts(floor: TcbFloor) -> list[tuple[str, int]]:
    return [(part, svn) for part, svn in floor.model_dump().items() if svn is not None]


def _images(measurements: tuple[str, ...]) -> str:
    return "images " + ", ".join(f"{measurement[:16]}…" for measurement in measurements)


def _intel(name: str, policy: SgxPolicy | TdxPolicy) -> str:
    return (
        f"{name}: Intel must call the firmware {' or '.join(policy.tcb_statuses)}; hyperthreading"
        f" {_may(policy.allow_smt)}; packages added later {_may(policy.allow_dynamic_platform)}; keys kept by Intel"
        f" {_may(policy.allow_cached_keys)}."
    )


def _may(allowed: bool) -> str:
    return "allowed" if allowed else "refused"
