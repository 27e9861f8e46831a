"""The Flower app that goes with every run: a file of bytes that are the same everywhere, and how a site pins it.

A stock SuperNode runs what the SuperLink sends. Flower's own guard against that is `--trusted-entities`: it runs only
an app that a trusted key signed. So a site makes a key, signs the hash of this one app with it, and throws the key
away: nothing else can ever be signed. The signature (the pin) goes to the coordinator and comes back with the app.
"""

import base64
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.files import write_bytes, write_text

_FILES = ("pyproject.toml", "fedcall_gateway/__init__.py", "fedcall_gateway/client_app.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file knows


class Pin(Document):
    """A site's approval of one app; public."""

    app: str = Field(description="SHA-256 of the app (its FAB hash).")
    key: str = Field(description="Name of the key that signed it, in the site's trusted.yaml.")
    signed_at: int = Field(description="Seconds since 1970.")
    signature: str = Field(description="Ed25519, base64 as in URLs; of the time and the hash.")


def app_bundle() -> bytes:
    """Return the app as Flower takes it: a zip file with a manifest; stored, so that no compressor changes its hash."""
    folder = files("fedcall.federation.flower") / "app"
    contents = {name: folder.joinpath(name).read_bytes() for name in _FILES}
    manifest = [
        f"{name},{hashlib.sha256(content).hexdigest()},{len(content) * 8}" for name, content in contents.items()
    ]
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (contents | {".info/CONTENT": "\n".join(manifest).encode()}).items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            archive.writestr(entry, content)
    return bundle.getvalue()


def app_hash() -> str:
    """Return the SHA-256 of the app, in hexadecimal: what Flower calls its FAB hash."""
    return hashlib.sha256(app_bundle()).hexdigest()


def pin_app(expected: str, folder: Path) -> Path:
    """Approve the app of this hash; write `trusted.yaml` for the site's SuperNode, and return the pin's path.

    Raises
    ------
    FedcallError
        If the installed fedcall has another app.
    """
    found = app_hash()
    if expected != found:
        raise FedcallError(
            f"--hash {expected}: the app of the fedcall installed here has hash {found}; install the version that the"
            " coordinator runs, or ask for its hash again ('fedcall aggregator app')"
        )
    key, signed_at = Ed25519PrivateKey.generate(), int(time.time())
    name = f"fpk_fedcall_{found[:12]}"
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    signature = key.sign(signed_at.to_bytes(8, "big") + bytes.fromhex(found))
    name += "_" + hashlib.sha256(public).hexdigest()[:12]
    pin = Pin(app=found, key=name, signed_at=signed_at, signature=base64.urlsafe_b64encode(signature).decode())
    write_text(folder / "trusted.yaml", yaml.safe_dump({name: public.decode()}))
    write_bytes(folder / "pin.json", pin.canonical())
    return folder / "pin.json"


def read_pins(paths: Sequence[Path]) -> dict[str, str]:
    """Return sites' pins as Flower's verifications of an app; FedcallError for one that is not of our app."""
    verifications = {"valid_license": "Valid"} if paths else {}
    for path in paths:
        try:
            pin = Pin.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise FedcallError(f"--pin {path}: no such file") from None
        except ValidationError as error:
            raise FedcallError(f"--pin {path}: not a pin of 'fedcall site pin-app' ({describe(error)})") from None
        if pin.app != app_hash():
            raise FedcallError(f"--pin {path}: pins app {pin.app}, this fedcall has {app_hash()}")
        verifications[pin.key] = json.dumps({"signed_at": pin.signed_at, "signature": pin.signature})
    return verifications
