"""Signed documents: canonical JSON (RFC 8785) with an Ed25519 signature (RFC 8032).

A document on disk is `{"body": …, "public_key": …, "signature": …}`; the signature covers the
canonical form of the body, prefixed by the document's kind so that no document passes for another kind.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from fedcall.errors import FedcallError
from fedcall.files import write_bytes


class Document(BaseModel):
    """A value that sites and aggregator exchange and sign. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> bytes:
        """Return the canonical JSON of this document (RFC 8785)."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal.

        Examples
        --------
        >>> from fedcall.privacy.terms import Adaptation
        >>> Adaptation(learning_rate=0.2).digest == Adaptation().digest  # what is left out counts with its default
        True
        """
        return hashlib.sha256(self.canonical()).hexdigest()


class GrownDocument(Document):
    """A document whose form has grown: fields of `NEWER` are left out of it while they are at their defaults.

    So what an older version signed, digested or chained keeps its signature, its digest and its place in the chain.
    """

    NEWER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {name for name in self.NEWER if getattr(self, name) == type(self).model_fields[name].default}
        return {key: value for key, value in serialize(self).items() if key not in unused}


AnyDocument = TypeVar("AnyDocument", bound=Document)


def sign(document: Document, key: Ed25519PrivateKey) -> bytes:
    """Return the signed form of `document`, as canonical JSON bytes.

    Raises
    ------
    FedcallError
        If a number in it is infinite or NaN: JSON has neither, and null would be signed in its place.
    """
    return rfc8785.dumps(
        {
            "body": document.model_dump(mode="json"),
            "public_key": public_text(key.public_key()),
            "signature": base64.b64encode(key.sign(_message(document))).decode(),
        }
    )


def verify(signed: bytes, kind: type[AnyDocument], public_key: str) -> AnyDocument:
    """Return the document inside `signed` after checking that `public_key` signed it.

    Raises
    ------
    FedcallError
        If the bytes are not a signed document of this kind, or the signature is not by `public_key`.
    """
    name = kind.__name__.lower()
    document, envelope = _open(signed, kind)
    try:
        if envelope.get("public_key") != public_key:
            raise FedcallError(f"{name}: signed by another key ({envelope.get('public_key')}) than {public_key}")
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(envelope["signature"], validate=True), _message(document))
    except (InvalidSignature, ValueError, TypeError):
        raise FedcallError(f"{name}: the signature does not match the content") from None
    return document


def read_unverified(signed: bytes, kind: type[AnyDocument]) -> tuple[AnyDocument, str]:
    """Return the document and the public key it names, without checking the signature."""
    document, envelope = _open(signed, kind)
    return document, str(envelope.get("public_key"))


def is_exact(signed: bytes, document: Document) -> bool:
    """Say whether `signed` is byte for byte what `sign` wrote of `document`.

    A signature covers what a document says, not its bytes: spaces, repeated keys, numbers written as text and unused
    bits of base64 leave it valid. Where the bytes themselves are named by a digest, they must be exact.
    """
    try:
        envelope = json.loads(signed)
        signature = base64.b64decode(envelope["signature"], validate=True)
        canonical = {
            "body": document.model_dump(mode="json"),
            "public_key": envelope["public_key"],
            "signature": base64.b64encode(signature).decode(),
        }
        return bytes(rfc8785.dumps(canonical)) == signed
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def read_signed(path: Path, kind: type[AnyDocument], public_key: str) -> AnyDocument:
    """Read and verify a signed document; errors name the file."""
    try:
        return verify(Path(path).read_bytes(), kind, public_key)
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file") from None
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None


def write_signed(path: Path, document: Document, key: Ed25519PrivateKey) -> None:
    """Write the signed form of `document` atomically."""
    write_bytes(path, sign(document, key))


def public_text(key: Ed25519PublicKey) -> str:
    """Return a public key as base64 of its 32 bytes."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def _open(signed: bytes, kind: type[AnyDocument]) -> tuple[AnyDocument, dict[str, Any]]:
    name = kind.__name__.lower()
    try:
        envelope = json.loads(signed)
        if not isinstance(envelope, dict) or set(envelope) != {"body", "public_key", "signature"}:
            raise FedcallError(f"{name}: not a signed document (body, public_key, signature expected)")
        return kind.model_validate(envelope["body"]), envelope
    except ValidationError as error:
        raise FedcallError(f"{name}: {describe(error)}") from None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or a number of thousands of digits
        raise FedcallError(f"{name}: not JSON") from None


def describe(error: ValidationError) -> str:
    """Return the first problem of a pydantic error as one line: where, what was found, what is allowed."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'"
    if first["type"] == "missing":
        return f"missing key '{where}'"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict):  # a rule between keys: the message says what was found
        return message if not first["loc"] else f"{where}: {message}"
    return f"{where}: {message} (found {first['input']!r})"


def _message(document: Document) -> bytes:
    odd = _not_finite(document.model_dump(), "")
    if odd:
        raise FedcallError(f"{type(document).__name__.lower()}: {odd} is not a finite number, and nobody can sign it")
    return type(document).__name__.encode() + b"\0" + document.canonical()


def _not_finite(value: object, where: str) -> str:
    """Return where a number is infinite or NaN; empty if none is.

    JSON writes both as null, so a signature over null would pass for them, too: two values with one signature.
    """
    if isinstance(value, float):
        return "" if math.isfinite(value) else where
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    found = (_not_finite(part, f"{where}.{key}" if where else str(key)) for key, part in parts)
    return next((odd for odd in found if odd), "")
