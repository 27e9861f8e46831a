"""The aggregator's TLS: a small certificate authority in the state folder, or a certificate from elsewhere."""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.keys import require_private

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 365
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificates:
    """Paths of the authority's certificate, which sites get, and of the server's certificate and key."""

    authority: Path
    server: Path
    server_key: Path


def ensure_certificates(state: Path, names: Sequence[str]) -> Certificates:
    """Make the authority and a server certificate for this machine and `names`, or return those still good.

    The authority lies in `state/ca.crt`; its key and the server's in `state/tls/`, mode 0600.

    Raises
    ------
    FedcallError
        If others may read one of the keys.
    """
    state = Path(state)
    folder = state / "tls"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    found = Certificates(state / "ca.crt", folder / "server.crt", folder / "server.key")
    authority_key, authority = folder / "ca.key", found.authority
    for key in (authority_key, found.server_key):
        if key.exists():
            require_private(key)
    if not (authority.exists() and authority_key.exists()):
        _make_authority(authority, authority_key)
        found.server.unlink(missing_ok=True)
    if not (found.server_key.exists() and _is_good(found.server, names)):
        _make_server(found, authority_key, names)
    return found


def given_certificates(own: Certificates, certificate: Path | None, key: Path | None) -> Certificates:
    """Return the given server certificate and key after checking them, or our own if none are given.

    Raises
    ------
    FedcallError
        If a file is missing or they do not belong together, or others may read the key.
    """
    if certificate is None or key is None:
        return own
    require_private(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise FedcallError(
            f"--tls-certificate {certificate}, --tls-key {key}: not a certificate chain (PEM) and its key ({error})"
        ) from None
    return Certificates(own.authority, certificate, key)


def _make_authority(certificate: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcall aggregator authority")])
    signed = (
        _builder(name, name, key, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_path, key)
    write_bytes(certificate, signed.public_bytes(serialization.Encoding.PEM))


def _make_server(paths: Certificates, authority_key: Path, names: Sequence[str]) -> None:
    authority = x509.load_pem_x509_certificate(paths.authority.read_bytes())
    signer = serialization.load_pem_private_key(authority_key.read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcall aggregator")])
    certificate = (
        _builder(name, authority.subject, key, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_key(paths.server_key, key)
    write_bytes(paths.server, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # a site's clock may be behind
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    hosts, addresses = {"localhost"}, {"127.0.0.1", "::1"}
    for name in names:
        try:
            addresses.add(str(ipaddress.ip_address(name)))
        except ValueError:
            hosts.add(name)
    return [x509.DNSName(host) for host in sorted(hosts)] + [
        x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)
    ]


def _is_good(path: Path, names: Sequence[str]) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_RENEW_DAYS)
    found = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return certificate.not_valid_after_utc > soon and all(name in found for name in _general_names(names))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
