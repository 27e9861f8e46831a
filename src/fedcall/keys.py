"""A site's keys: a folder of private files (mode 0600) and one public file to send to the coordinator.

| file | what | who reads it |
|---|---|---|
| `secret` | 32 random bytes: noise, sampling and patient pseudonyms | training and ledger; never the network side |
| `signing.key` | Ed25519, signs claims | training |
| `node.key` | P-384 in OpenSSH form, Flower's node authentication | fetch and upload |
| `site.json` | name and both public keys | everyone |
"""

import os
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import Document, public_text
from fedcall.errors import FedcallError
from fedcall.files import make_private_folder, replace_private, sync, write_bytes


class SiteIdentity(Document):
    """The public half of a site's keys."""

    name: str
    public_key: str
    node_key: str


def create_keys(folder: Path, name: str) -> SiteIdentity:
    """Create a site's keys, or return the identity of those already there.

    Raises
    ------
    FedcallError
        If the folder already holds the keys of another site.
    """
    folder = Path(folder)
    public = folder / "site.json"
    if public.exists():
        identity = read_identity(folder)
        if identity.name != name:
            raise FedcallError(
                f"{public}: holds the keys of site '{identity.name}', not of '{name}'; choose another folder"
            )
        return identity
    make_private_folder(folder)
    signing = Ed25519PrivateKey.generate()
    node = ec.generate_private_key(ec.SECP384R1())
    write_private(folder / "secret", secrets.token_bytes(32))
    write_private(folder / "signing.key", _private_bytes(signing, serialization.PrivateFormat.PKCS8))
    write_private(folder / "node.key", _private_bytes(node, serialization.PrivateFormat.OpenSSH))
    node_public = node.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    identity = SiteIdentity(name=name, public_key=public_text(signing.public_key()), node_key=node_public.decode())
    write_bytes(public, identity.canonical())
    return identity


def rotate_keys(folder: Path) -> tuple[SiteIdentity, Path]:
    """Replace a site's signing and node keys; return the new identity and where the old ones lie now.

    The secret stays: the ledger is bound to it, and so is every release that must come back the same. Studies that
    register the old keys know nothing of the new ones.
    """
    folder = Path(folder)
    before = read_identity(folder)
    require_private_keys(folder)
    number = 1 + sum(1 for _ in folder.glob("replaced-*"))
    old = folder / f"replaced-{number}"
    old.mkdir(mode=0o700)
    for name in ("signing.key", "node.key", "site.json"):
        (old / name).write_bytes((folder / name).read_bytes())
        (old / name).chmod(0o600)
        sync(old / name)
    signing, node = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())
    replace_private(folder / "signing.key", _private_bytes(signing, serialization.PrivateFormat.PKCS8))
    replace_private(folder / "node.key", _private_bytes(node, serialization.PrivateFormat.OpenSSH))
    node_public = node.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    identity = SiteIdentity(
        name=before.name, public_key=public_text(signing.public_key()), node_key=node_public.decode()
    )
    write_bytes(folder / "site.json", identity.canonical())
    return identity, old


def read_identity(folder: Path) -> SiteIdentity:
    """Read the public half of the keys in `folder`."""
    path = Path(folder) / "site.json"
    try:
        return SiteIdentity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no keys here; make them with 'fedcall site keygen'") from None
    except ValueError:
        raise FedcallError(f"{path}: not the public file of a site; make keys with 'fedcall site keygen'") from None


def read_secret(folder: Path) -> bytes:
    """Read the 32-byte secret that keys noise, sampling and patient pseudonyms."""
    content = read_private(Path(folder) / "secret")
    if len(content) != 32:
        raise FedcallError(f"{folder}/secret: {len(content)} bytes found, 32 expected; restore it from your backup")
    return content


def read_signing_key(folder: Path) -> Ed25519PrivateKey:
    """Read the Ed25519 key that signs claims (or, at the aggregator, studies and receipts)."""
    path = Path(folder) / "signing.key"
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise FedcallError(f"{path}: not an Ed25519 private key; restore it from your backup")
    return key


def read_node_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """Read the P-384 key that authenticates the site's node to Flower."""
    path = Path(folder) / "node.key"
    try:
        key = serialization.load_ssh_private_key(read_private(path), password=None)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FedcallError(f"{path}: not a P-384 private key; restore it from your backup")
    return key


def require_private_keys(folder: Path) -> None:
    """Refuse a folder of keys in which one is missing or may be read by others than its owner."""
    for name in ("secret", "signing.key", "node.key"):
        read_private(Path(folder) / name)


def require_private(path: Path) -> None:
    """Refuse a secret file that others than its owner may read; the message names the command that mends it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise FedcallError(f"{path}: mode {mode:04o} lets others read it; run 'chmod 600 {path}'")


def _private_bytes(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def write_private(path: Path, content: bytes) -> None:
    """Write a key that only its owner may read; FedcallError if there is one already."""
    # O_EXCL: keys are made once and never overwritten; a lost secret must be noticed, not replaced.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FedcallError(f"{path}: exists without site.json; move the incomplete key folder away first") from None
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    sync(path)


def read_private(path: Path) -> bytes:
    """Read a key; FedcallError if there is none, or others may read it."""
    try:
        require_private(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such key; make keys with 'fedcall site keygen'") from None
