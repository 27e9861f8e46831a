"""Tiny Debian packages, made with dpkg-deb: what a recipe takes of them, and what it leaves."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def made_deb(folder: Path, name: str, files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> Path:
    """Make NAME.deb, version 1, with files and symbolic links."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: A <a@b.example>\nDescription: made up\n"
    (root / "DEBIAN" / "control").write_text(control)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        (root / path).chmod(0o755)
    for path, target in links.items():
        (root / path).symlink_to(target)
    made = folder / f"{name}_1_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, made], check=True, capture_output=True)
    return made


def made_kernel(folder: Path) -> Path:
    """Make a kernel's package: a kernel, and modules that name what they need, as the real ones do."""
    needs = {
        "virtio": "",
        "virtio_pci": "virtio",
        "virtio_net": "virtio",
        "9pnet": "",
        "9pnet_virtio": "virtio,9pnet",
        "9p": "9pnet",
        "sev-guest": "",
        "configfs": "",
        "bluetooth": "",
    }
    files = {f"lib/modules/6/{name}.ko": b"\x7fELF\0depends=" + need.encode() + b"\0" for name, need in needs.items()}
    return made_deb(folder, "linux-image-6-amd64", {"boot/vmlinuz-6-amd64": b"kernel", **files})
