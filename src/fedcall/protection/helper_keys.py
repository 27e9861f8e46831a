"""A helper's keys: those of any node of a study, and one more that sites seal the seeds of their masks to.

| file | what |
|---|---|
| `sealing.key` | X25519: opens sealed seeds. Whoever has it and every update knows the updates |
| `signing.key`, `node.key` | as a site's (`fedcall.keys`) |
| `helper.json` | name and the three public keys, to send to the coordinator |
"""

import base64
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcall.documents import Document
from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.keys import create_keys, read_private, write_private


class HelperIdentity(Document):
    """The public half of a helper's keys."""

    name: str
    public_key: str
    node_key: str
    hpke_key: str


def create_helper_keys(folder: Path, name: str) -> HelperIdentity:
    """Create a helper's keys, or return the identity of those already there.

    Raises
    ------
    FedcallError
        If the folder already holds the keys of another node.
    """
    folder = Path(folder)
    identity = create_keys(folder, name)
    path = folder / "sealing.key"
    if not path.exists():
        if (folder / "helper.json").exists():
            raise FedcallError(f"{path}: no such key, but helper.json names one; restore it from your backup")
        form = serialization.PrivateFormat.PKCS8
        key = X25519PrivateKey.generate()
        write_private(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = read_sealing_private(folder).public_key().public_bytes_raw()
    found = HelperIdentity(
        name=identity.name,
        public_key=identity.public_key,
        node_key=identity.node_key,
        hpke_key=base64.b64encode(public).decode(),
    )
    write_bytes(folder / "helper.json", found.canonical())
    return found


def read_helper_identity(path: Path) -> HelperIdentity:
    """Read the public file of a helper (helper.json)."""
    try:
        return HelperIdentity.model_validate_json(Path(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FedcallError(f"{path}: no such public file; 'fedcall helper keygen' makes it (helper.json)") from None
    except (ValueError, IsADirectoryError):
        raise FedcallError(f"{path}: not the public file of a helper; give its helper.json") from None


def read_sealing_private(folder: Path) -> X25519PrivateKey:
    """Read the X25519 key that opens sealed seeds."""
    path = Path(folder) / "sealing.key"
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except ValueError:
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise FedcallError(f"{path}: not an X25519 private key; restore it from your backup")
    return key
