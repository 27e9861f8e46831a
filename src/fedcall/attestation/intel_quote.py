"""Quotes of Intel SGX and TDX, and the collateral they are checked against: read strictly.

dcap-qvl checks signatures and what Intel says of a platform, but it looks past bytes it does not need: lengths, the
chains' own roots, the chain of the revocation list. Here every length fits, every root is Intel's, and every byte is
one that a signature covers or that can be only one way.

Layout: Intel, "SGX ECDSA Quote Library Reference DCAP API", appendix A (quotes of version 3), and "TDX DCAP Quoting
Library API", appendix A.3 (versions 4 and 5).
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from fedcall.attestation.certificates import pinned_root, read_chain
from fedcall.attestation.checks import EvidenceRefused

_HEADER_BYTES = 48
_SGX_BODY_BYTES, _TD_BODY_BYTES, _TD15_BODY_BYTES = 384, 584, 648
_BODIES = {1: _SGX_BODY_BYTES, 2: _TD_BODY_BYTES, 3: _TD15_BODY_BYTES}  # types of version 5
_SIGNATURE_AND_KEY_BYTES, _QE_REPORT_AND_SIGNATURE_BYTES = 128, 384 + 64
_ROOT = "intel-sgx-root"
_HEX_FIELDS = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_CHAIN_FIELDS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_TEXT_FIELDS = ("tcb_info", "qe_identity")


@dataclass(frozen=True)
class EnclaveBody:
    """What a quote says of the enclave; nothing is trusted before the quote is verified."""

    is_tdx: bool
    report_data: bytes
    measurement: bytes  # MRENCLAVE (32 bytes) or MRTD (48)
    registers: tuple[bytes, ...]  # RTMR0 to RTMR3 of a trust domain
    attributes: bytes
    svn: int  # ISV SVN of an enclave
    module_signer: bytes  # MRSIGNERSEAM: zero for Intel's own module
    service_domain: bytes  # MRSERVICETD: zero where no other trust domain (that could migrate it) is bound to it


def read_quote(raw: bytes) -> EnclaveBody:
    """Read a quote of version 3 (SGX), 4 or 5 (SGX, TDX) with the certificates of its platform inside.

    Raises
    ------
    EvidenceRefused
        With code `quote-format`, if a length does not fit, or the certificates are not exactly a chain to Intel's root.
    """
    try:
        version, kind, tee = struct.unpack_from("<HHI", raw, 0)
        is_tdx = tee == 0x81
        _need(version in (3, 4, 5) and tee in (0, 0x81), f"version {version}, tee type {tee:#x}")
        _need(version > 3 or not is_tdx, "version 3 with a trust domain")
        _need(kind == 2, f"attestation key type {kind}, 2 (ECDSA P-256) expected")
        start, size = _HEADER_BYTES, _TD_BODY_BYTES if is_tdx else _SGX_BODY_BYTES
        if version == 5:
            body_type, size = struct.unpack_from("<HI", raw, start)
            start += 6
            _need(_BODIES.get(body_type) == size, f"body of type {body_type} with {size} bytes")
            _need((body_type > 1) == is_tdx, f"body of type {body_type} for tee type {tee:#x}")
        _require_lengths(raw, start + size, version)
        return _body(raw[start : start + size], is_tdx)
    except struct.error:
        raise EvidenceRefused("quote-format", "not a quote of SGX or TDX: cut short") from None


def read_collateral(text: bytes, quote_chain: list[x509.Certificate]) -> str:
    """Check the form of collateral and its chains; return its text.

    Parameters
    ----------
    text : bytes
        JSON with the nine fields of dcap-qvl, as Python's `json.dumps(…, indent=2)` or its compact form writes it.
    quote_chain : list of certificates
        The chain inside the quote: the platform's, its authority's, Intel's root.

    Raises
    ------
    EvidenceRefused
        With code `collateral-format`, if a field is missing, unknown or not in its one form, or a chain does not end at
        Intel's root.
    """
    try:
        fields = json.loads(text)
        forms = (json.dumps(fields, indent=2), json.dumps(fields, separators=(",", ":")))
    except (ValueError, RecursionError):
        raise EvidenceRefused("collateral-format", "not JSON") from None
    _need_collateral(isinstance(fields, dict), "not a mapping of fields")
    _need_collateral(set(fields) == {*_HEX_FIELDS, *_CHAIN_FIELDS, *_TEXT_FIELDS}, "fields are missing or unknown")
    _need_collateral(all(isinstance(value, str) for value in fields.values()), "a field is not text")
    _need_collateral(text.decode().removesuffix("\n") in forms, "not as json.dumps writes it, with indent 2 or compact")
    for name in _HEX_FIELDS:
        value = fields[name]
        is_hex = len(value) % 2 == 0 and all(letter in "0123456789abcdef" for letter in value)
        _need_collateral(is_hex, f"{name} is not in lower-case hexadecimal")
    for name in _CHAIN_FIELDS:
        chain = read_chain(fields[name].encode(), "collateral-format")
        _need_collateral(len(chain) == 2 and chain[1] == pinned_root(_ROOT), f"{name} does not end at Intel's root")
        if name == "pck_crl_issuer_chain":
            _need_collateral(chain[0] == quote_chain[1], "the revocation list is of another authority than the quote's")
    return text.decode()


def platform_chain(raw: bytes) -> list[x509.Certificate]:
    """Return the certificates inside a quote that `read_quote` accepts."""
    start = raw.index(b"-----BEGIN CERTIFICATE-----")
    return read_chain(raw[start:].rstrip(b"\0"), "quote-format")


def _require_lengths(raw: bytes, end: int, version: int) -> None:
    """Walk over the signature's part of a quote, from `end` of its body to the end of the file."""
    (size,) = struct.unpack_from("<I", raw, end)
    last = end + 4 + size
    _need(last <= len(raw), f"{len(raw)} bytes, {last} by its own length")
    _need(not any(raw[last:]), "bytes behind the quote are set")  # kernels hand over a buffer filled up with zeros
    place = end + 4 + _SIGNATURE_AND_KEY_BYTES
    if version > 3:
        kind, size = struct.unpack_from("<HI", raw, place)
        _need(kind == 6 and place + 6 + size == last, "the quoting enclave's part does not fill the rest")
        place += 6
    place += _QE_REPORT_AND_SIGNATURE_BYTES
    (size,) = struct.unpack_from("<H", raw, place)
    place += 2 + size
    kind, size = struct.unpack_from("<HI", raw, place)
    _need(kind == 5, f"certification data of type {kind}, 5 (certificates) expected")
    _need(place + 6 + size == last, "the certificates do not fill the rest")
    chain = read_chain(raw[place + 6 : last].removesuffix(b"\0"), "quote-format")
    _need(len(chain) == 3 and chain[2] == pinned_root(_ROOT), "the certificates are no chain of three to Intel's root")


def _body(body: bytes, is_tdx: bool) -> EnclaveBody:
    if is_tdx:
        return EnclaveBody(
            is_tdx=True,
            report_data=body[520:584],
            measurement=body[136:184],
            registers=tuple(body[start : start + 48] for start in (328, 376, 424, 472)),
            attributes=body[120:128],
            svn=0,
            module_signer=body[64:112],
            service_domain=body[600:648],
        )
    return EnclaveBody(
        is_tdx=False,
        report_data=body[320:384],
        measurement=body[64:96],
        registers=(),
        attributes=body[48:64],
        svn=int.from_bytes(body[258:260], "little"),
        module_signer=b"",
        service_domain=b"",
    )


def _need(holds: Any, problem: str) -> None:
    if not holds:
        raise EvidenceRefused("quote-format", f"not a quote of SGX or TDX that is read here: {problem}")


def _need_collateral(holds: bool, problem: str) -> None:
    if not holds:
        raise EvidenceRefused("collateral-format", f"not collateral of a quote: {problem}")
