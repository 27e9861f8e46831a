"""What Linux's `/dev/sev-guest` gives a guest of SEV-SNP: reports on kernels before configfs-tsm, and derived keys.

Layout: Linux, `include/uapi/linux/sev-guest.h`; AMD publication 56860, MSG_KEY_REQ, MSG_REPORT_REQ and their responses.
Debian 12's kernel 6.1 has this device and no configfs-tsm.
"""

import ctypes
import fcntl
import struct
from pathlib import Path

from fedcall.errors import FedcallError

DEVICE = Path("/dev/sev-guest")
DERIVED_KEY_BYTES = 32
# _IOWR('S', number, struct snp_guest_request_ioctl): 32 bytes to and fro.
_REPORT, _DERIVED_KEY = 0xC0205300, 0xC0205301
_RESPONSE_BYTES = 4000
_REPORT_START, _KEY_START = 32, 32
# GUEST_FIELD_SELECT: the guest's policy (so that a guest whose host may debug it gets another key) and its measurement.
_MIX_POLICY, _MIX_MEASUREMENT = 1 << 0, 1 << 3


def report(report_data: bytes, device: Path = DEVICE) -> bytes:
    """Return the firmware's report on this guest, bound to 64 bytes.

    Raises
    ------
    FedcallError
        If there is no such device, or the firmware refuses.
    """
    if len(report_data) != 64:
        raise ValueError(f"report data must have 64 bytes, found {len(report_data)}")
    answer = _ask(device, _REPORT, report_data + struct.pack("<I28x", 0))
    status, size = struct.unpack_from("<II", answer)
    if status or not 0 < size <= _RESPONSE_BYTES - _REPORT_START:
        raise FedcallError(f"{device}: the firmware gives no report (status {status:#x}, {size} bytes)")
    return answer[_REPORT_START : _REPORT_START + size]


def derived_key(device: Path = DEVICE) -> bytes:
    """Return 32 bytes that only a guest of the same image and policy gets, on this processor; the same each time.

    It follows from the chip's own key, so that another machine, another image, or a guest that may be debugged gets
    another one.
    """
    mixed = _MIX_POLICY | _MIX_MEASUREMENT
    answer = _ask(device, _DERIVED_KEY, struct.pack("<IIQIIQ", 0, 0, mixed, 0, 0, 0))
    (status,) = struct.unpack_from("<I", answer)
    key = answer[_KEY_START : _KEY_START + DERIVED_KEY_BYTES]
    if status or not any(key):
        raise FedcallError(f"{device}: the firmware gives no derived key (status {status:#x})")
    return key


def _ask(device: Path, call: int, request: bytes) -> bytes:
    sent, answer = ctypes.create_string_buffer(request, len(request)), ctypes.create_string_buffer(_RESPONSE_BYTES)
    wish = bytearray(struct.pack("<B7xQQQ", 1, ctypes.addressof(sent), ctypes.addressof(answer), 0))
    try:
        with open(device, "r+b", buffering=0) as handle:
            fcntl.ioctl(handle, call, wish, True)
    except OSError as error:
        firmware = struct.unpack_from("<Q", wish, 24)[0]
        told = f"; firmware error {firmware:#x}" if firmware else ""
        raise FedcallError(f"{device}: {error.strerror}{told}; is this a guest of SEV-SNP?") from None
    return answer.raw
