"""A stand-in for the firmware of an SEV guest: nothing that runs, and the tables that a measurement reads.

Layout: edk2's OvmfPkg/ResetVector (the table of GUIDs that ends 32 bytes before the end) and OvmfSevMetadata.asm.
"""

import hashlib
import struct
import uuid
from pathlib import Path

import yaml

_FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
_HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"
_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
_SECTIONS = ((0x800000, 0x9000, 1), (0x80D000, 0x1000, 2), (0x80E000, 0x1000, 3))
_HASHES_PAGE = 0x810000


def made_firmware(has_hashes: bool = True, size: int = 4 * 4096) -> bytes:
    """Return firmware of so many bytes, with or without the table of kernel hashes."""
    sections = _SECTIONS + (((_HASHES_PAGE, 0x1000, 0x10),) if has_hashes else ())
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    content = bytearray(size)
    content[4096 : 4096 + len(metadata)] = metadata
    entries = _entry(_RESET, struct.pack("<I", 0x80B004)) + _entry(_METADATA, struct.pack("<I", size - 4096))
    if has_hashes:
        entries += _entry(_HASHES, struct.pack("<II", _HASHES_PAGE + 0xC00, 0x400))
    table = entries + struct.pack("<H", len(entries) + 18) + uuid.UUID(_FOOTER).bytes_le
    content[size - 32 - len(table) : size - 32] = table
    return bytes(content)


def made_launch(folder: Path, firmware: bytes | None = None, **changes: object) -> Path:
    """Write `launch.yaml`, with firmware and a stand-in image beside it; return it."""
    firmware = made_firmware() if firmware is None else firmware
    (folder / "image").mkdir(exist_ok=True)
    for name, content in (("vmlinuz", b"kernel"), ("initrd.img", b"files"), ("cmdline", b"panic=-1")):
        if not (folder / "image" / name).exists():
            (folder / "image" / name).write_bytes(content)
    (folder / "OVMF.fd").write_bytes(firmware)
    told = {"image": "image", "firmware": "OVMF.fd", "firmware_sha256": hashlib.sha256(firmware).hexdigest()}
    (folder / "launch.yaml").write_text(yaml.safe_dump({**told, "vcpus": [2, 4], **changes}))
    return folder / "launch.yaml"


def _entry(guid: str, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + uuid.UUID(guid).bytes_le
