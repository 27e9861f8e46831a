"""X.509 certificates and revocation lists of processor makers: read strictly, so that no byte of a file goes unread.

A signature covers only what stands inside a certificate; text around it, line breaks and the repeated name of the
algorithm are not covered. Here a file must be exactly what a writer would make of its content again.
"""

import datetime
import hashlib
import warnings
from functools import cache
from importlib.resources import files

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedcall.attestation.checks import Checks, EvidenceRefused

# AMD's endorsement certificates have the serial number 0, which RFC 5280 forbids and cryptography warns of.
warnings.filterwarnings("ignore", message="Parsed a serial number which wasn't positive")
warnings.filterwarnings("ignore", message="Attribute's length must be")  # of a foreign name; it is compared as it is

# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 4055), as AMD writes it in certificates (with
# the default trailer field spelled out) and in revocation lists (without).
_PSS_ALGORITHMS = tuple(
    bytes.fromhex(text)
    for text in (
        "304606092a864886f70d01010a3039a00f300d06096086480165030402020500"
        "a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130a303020101",
        "304106092a864886f70d01010a3034a00f300d06096086480165030402020500"
        "a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130",
    )
)
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@cache
def pinned_root(name: str) -> x509.Certificate:
    """Return a root certificate that ships with fedcall: `ark-milan`, `ark-genoa`, `ark-turin`, `intel-sgx-root`."""
    return x509.load_pem_x509_certificate((files("fedcall.attestation") / "roots" / f"{name}.pem").read_bytes())


def read_chain(pem: bytes, code: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file that holds nothing else.

    Raises
    ------
    EvidenceRefused
        If it is not exactly certificates, each between its marks and in lines of 64 characters (`\\r\\n` is allowed).
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise EvidenceRefused(code, f"not a chain of certificates in PEM form ({error})") from None
    if b"".join(one.public_bytes(Encoding.PEM) for one in found) != pem.replace(b"\r\n", b"\n"):
        raise EvidenceRefused(code, "the certificates' file holds more than certificates in plain PEM form")
    return found


def read_certificate(der: bytes, code: str) -> x509.Certificate:
    """Return the one certificate of a DER file; EvidenceRefused if it is none."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise EvidenceRefused(code, f"not a certificate in DER form ({error})") from None


def read_revocation_list(der: bytes, code: str) -> x509.CertificateRevocationList:
    """Return the one revocation list of a DER file; EvidenceRefused if it is none."""
    try:
        return x509.load_der_x509_crl(der)
    except ValueError as error:
        raise EvidenceRefused(code, f"not a revocation list in DER form ({error})") from None


def require_signed_by(
    checks: Checks,
    child: x509.Certificate | x509.CertificateRevocationList,
    issuer: x509.Certificate,
    code: str,
    what: str,
) -> None:
    """Require that an RSA key of 4096 bits signed `child`, by RSASSA-PSS with SHA-384, and that no byte is unsigned."""
    key = issuer.public_key()
    size = key.key_size if isinstance(key, rsa.RSAPublicKey) else 0
    checks.require(size == 4096, code, f"key that signed {what}", allowed="RSA, 4096 bits", found=f"{size} bits")
    same_name = child.issuer == issuer.subject
    checks.require(same_name, code, f"issuer of {what}", allowed=_name(issuer.subject), found=_name(child.issuer))
    signed = child.tbs_certificate_bytes if isinstance(child, x509.Certificate) else child.tbs_certlist_bytes
    exact = {_sequence(signed + algorithm + _bits(child.signature)) for algorithm in _PSS_ALGORITHMS}
    whole = child.public_bytes(Encoding.DER) in exact
    checks.require(whole, code, f"form of {what}", allowed="content, RSASSA-PSS with SHA-384, signature", found="other")
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(child.signature, signed, _PSS, hashes.SHA384())
        valid = True
    except InvalidSignature:
        valid = False
    checks.require(valid, code, f"signature of {what}", allowed=f"by {_name(issuer.subject)}", found=_said(valid))


def require_current(checks: Checks, certificate: x509.Certificate, time: datetime.datetime, what: str) -> None:
    """Require that `time` (with a time zone) lies within a certificate's dates."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    checks.require(
        first <= time <= last,
        "certificate-dates",
        f"time of verification and the dates of {what}",
        allowed=f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
        found=f"{time:%Y-%m-%d %H:%M}",
    )


def key_digest(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), in hexadecimal."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def _sequence(content: bytes) -> bytes:
    return b"\x30" + _length(len(content)) + content


def _bits(content: bytes) -> bytes:
    return b"\x03" + _length(len(content) + 1) + b"\0" + content


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    number = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(number)]) + number


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value)[:80] if common else name.rfc4514_string()[:80]


def _said(valid: bool) -> str:
    return "valid" if valid else "not by this key"
