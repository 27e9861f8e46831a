"""The measurement of an image before it is started: by sev-snp-measure, of stand-in firmware that has its tables."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedcall.attestation.launch import measured_policy, measurements
from fedcall.errors import FedcallError
from made_firmware import made_firmware, made_launch

POLICY = {"snp": {"tcb_floors": {"Genoa": {"bootloader": 10, "snp": 25, "microcode": 84}}}}


@pytest.fixture
def launch(tmp_path) -> Path:
    return made_launch(tmp_path)


def test_measurements__are_those_of_sev_snp_measure(launch):
    folder = launch.parent
    command = [
        *(sys.executable, "-m", "sevsnpmeasure.cli", "--mode", "snp", "--vcpus", "4", "--vcpu-type", "EPYC-v4"),
        *("--ovmf", "OVMF.fd", "--kernel", "image/vmlinuz", "--initrd", "image/initrd.img"),
        *("--append", "panic=-1", "--guest-features", "0x1"),
    ]
    program = f"import sys; sys.argv[0] = 'sev-snp-measure'; from {command[2]} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command[3:]], cwd=folder, capture_output=True, text=True, check=True
    )
    two, four = measurements(launch)
    assert (four, len(two)) == (done.stdout.strip(), 96)
    assert two != four


def test_measurements__of_anything_else_are_others(launch):
    folder = launch.parent
    seen = {measurements(launch)}
    for name in ("vmlinuz", "initrd.img", "cmdline"):
        (folder / "image" / name).write_bytes(b"another")
        seen.add(measurements(launch))
    seen.add(measurements(made_launch(folder, made_firmware(size=5 * 4096))))
    seen.add(measurements(made_launch(folder, made_firmware(), vcpu_type="EPYC-Milan")))
    seen.add(measurements(made_launch(folder, made_firmware(), guest_features=0x21)))
    assert len(seen) == 7


@pytest.mark.parametrize(
    ("firmware", "changes", "said"),
    [
        (made_firmware(has_hashes=False), {}, "has no table of kernel hashes, so kernel and initramfs would not be"),
        (bytes(8192), {}, "no firmware of an SEV guest"),
        (b"short", {}, "no firmware of an SEV guest"),
        (made_firmware(), {"firmware_sha256": "0" * 64}, "OVMF.fd: SHA-256 "),
        (made_firmware(), {"vcpu_type": "host"}, "vcpu_type 'host'; one of EPYC"),
        (made_firmware(), {"image": "nowhere"}, "nowhere/vmlinuz: no such file"),
        (made_firmware(), {"vcpus": []}, "vcpus"),
    ],
)
def test_measurements__of_what_cannot_be_measured(launch, firmware, changes, said):
    with pytest.raises(FedcallError, match=said):
        measurements(made_launch(launch.parent, firmware, **changes))


def test_measured_policy__names_the_image_and_no_other(launch, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    assert measured_policy(policy, launch).snp.measurements == measurements(launch)
    policy.write_text(yaml.safe_dump({"snp": {**POLICY["snp"], "measurements": ["ab" * 48]}}))
    with pytest.raises(FedcallError, match="others than those of"):
        measured_policy(policy, launch)
    policy.write_text(yaml.safe_dump({"simulated": {"root": "0" * 64, "measurements": ["0" * 96]}}))
    with pytest.raises(FedcallError, match="has no section 'snp'"):
        measured_policy(policy, launch)
