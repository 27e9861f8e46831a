"""What AMD's processor will measure when an image is started: computed from image and firmware, before any start.

The measurement is `sev-snp-measure`'s (https://pypi.org/project/sev-snp-measure): firmware, kernel, initramfs, command
line, and the number and kind of virtual processors.
"""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedcall.attestation.policy import EvidencePolicy, Hex32
from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.yaml_files import read_mapping, read_yaml

IMAGE_FILES = ("vmlinuz", "initrd.img", "cmdline")


class Launch(Document):
    """How a machine starts an image (YAML); paths are relative to the file."""

    image: str = Field(description="Folder of the image: vmlinuz, initrd.img, cmdline.")
    firmware: str = Field(description="OVMF with the table of kernel hashes (edk2's OvmfPkg/AmdSev).")
    firmware_sha256: Hex32 = Field(description="Its digest: whoever computes the measurement again must have the same.")
    vcpus: Annotated[tuple[Annotated[int, Field(ge=1, le=512)], ...], Field(min_length=1)] = Field(
        description="Numbers of virtual processors that are allowed; each gives another measurement."
    )
    vcpu_type: str = Field("EPYC-v4", description="QEMU's name of the processor that the guest sees (-cpu).")
    guest_features: Annotated[int, Field(ge=1, lt=2**64)] = Field(
        1, description="SEV_FEATURES that the host's kernel sets; 1: SNP alone."
    )


def measurements(path: Path) -> tuple[str, ...]:
    """Return the measurements of the launch that a YAML file describes, one for each number of processors.

    Returns
    -------
    tuple of str
        SHA-384 in hexadecimal, as in a policy's `snp.measurements`.

    Raises
    ------
    FedcallError
        If a file is missing, the firmware is another one, or it has no table of kernel hashes: a guest of such firmware
        runs whatever kernel the host likes, under the same measurement.
    """
    from sevsnpmeasure.guest import calc_launch_digest
    from sevsnpmeasure.sev_mode import SevMode
    from sevsnpmeasure.vcpu_types import CPU_SIGS

    launch = read_yaml(path, Launch)
    firmware, image = path.parent / launch.firmware, path.parent / launch.image
    for needed in (firmware, *(image / name for name in IMAGE_FILES)):
        if not needed.is_file():
            raise FedcallError(f"{path}: {needed}: no such file; the image is built by 'fedcall attestation image'")
    found = hashlib.sha256(firmware.read_bytes()).hexdigest()
    if found != launch.firmware_sha256:
        raise FedcallError(f"{firmware}: SHA-256 {found}; {path} says {launch.firmware_sha256}")
    if launch.vcpu_type not in CPU_SIGS:
        raise FedcallError(f"{path}: vcpu_type {launch.vcpu_type!r}; one of {', '.join(CPU_SIGS)} expected")
    _require_kernel_hashes(firmware)
    kernel, initrd, command_line = (str(image / name) for name in IMAGE_FILES)
    return tuple(
        calc_launch_digest(
            SevMode.SEV_SNP,
            count,
            CPU_SIGS[launch.vcpu_type],
            str(firmware),
            kernel,
            initrd,
            Path(command_line).read_text(),
            launch.guest_features,
        ).hex()
        for count in launch.vcpus
    )


def measured_policy(policy: Path, launch: Path) -> EvidencePolicy:
    """Return the policy of a YAML file whose `snp.measurements` are those of a launch.

    Raises
    ------
    FedcallError
        If the file has no section `snp`, or names other measurements itself.
    """
    content = read_mapping(policy)
    snp = content.get("snp")
    if not isinstance(snp, dict):
        raise FedcallError(f"{policy}: has no section 'snp'; the measurement of {launch} belongs there")
    computed = list(measurements(launch))
    if snp.get("measurements") not in (None, computed):
        raise FedcallError(f"{policy}: snp.measurements are others than those of {launch}; leave the key out")
    content["snp"] = {**snp, "measurements": computed}
    return read_yaml(policy, EvidencePolicy, content)


def _require_kernel_hashes(firmware: Path) -> None:
    from sevsnpmeasure.ovmf import OVMF, SectionType

    try:
        parsed = OVMF(str(firmware))
        has_table = parsed.is_sev_hashes_table_supported()
        has_table = has_table and parsed.has_metadata_section(SectionType.SNP_KERNEL_HASHES)
        parsed.sev_es_reset_eip()
    except (RuntimeError, ValueError, IndexError) as error:
        raise FedcallError(f"{firmware}: no firmware of an SEV guest ({error})") from None
    if not has_table:
        raise FedcallError(
            f"{firmware}: has no table of kernel hashes, so kernel and initramfs would not be measured; use OVMF built"
            " from edk2's OvmfPkg/AmdSev"
        )
