"""Model weights on disk: safetensors with string metadata, named by a digest of their content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from fedcall import __version__
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import write_bytes

STAND_DOWN = "stand_down"
"""Metadata of a fetched global model: why this site must not spend budget on training from it."""
STAYS = "stays_at"
"""Metadata of a model fitted to a hospital's own patients without noise: the hospital that it must not leave."""


UNREADABLE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What safetensors raises on lengths, names, shapes and types that the header of a file from anywhere may claim."""


@dataclass(frozen=True)
class Weights:
    """Named tensors and the metadata that travels with them."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over names, dtypes, shapes and values; metadata does not count."""
        return weights_digest(self.tensors)


def refuse_own_model(weights: Weights, source: str) -> None:
    """Refuse to start a study from a model that a hospital fitted to its own patients without noise."""
    if STAYS in weights.metadata:
        raise PrivacyRefusal(
            f"{source}: fitted without noise to patients of {weights.metadata[STAYS]}, and stays there; start from the"
            " model it was fitted on, or make one with 'fedcall train-public'"
        )


def weights_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of named tensors, independent of their order, in hexadecimal.

    Examples
    --------
    >>> one, two = np.zeros(3, np.float32), np.ones(2, np.float32)
    >>> weights_digest({"a": one, "b": two}) == weights_digest({"b": two, "a": one})
    True
    """
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        state.update(f"{len(name)}:{name}|{tensor.dtype.str}|{tensor.shape}|".encode())
        state.update(tensor.tobytes())
    return state.hexdigest()


def read_weights(path: Path) -> Weights:
    """Read a safetensors file.

    Raises
    ------
    FedcallError
        If the file is missing, or is not a complete safetensors file.
    """
    try:
        with safe_open(path, framework="np") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  (not a dict)
            return Weights(tensors, json.loads((handle.metadata() or {}).get("fedcall", "{}")))
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such model file") from None
    except OSError as error:
        reason = "a folder" if Path(path).is_dir() else error.strerror or str(error)
        raise FedcallError(f"{path}: a model is needed, found {reason}") from None
    except (SafetensorError, ValueError, TypeError) as error:  # cut off, or with metadata or types of another program
        raise FedcallError(f"{path}: not a complete safetensors file ({error}); fetch or make it again") from None


def content_digest(content: bytes) -> str:
    """Return the digest of the tensors in the bytes of a safetensors file; FedcallError if it is not a complete one."""
    return weights_digest(load_tensors(content))


def load_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Return the tensors in bytes that come from anywhere; FedcallError if they are no complete safetensors file."""
    try:
        return dict(load(content))
    except UNREADABLE as error:
        raise FedcallError(f"not a complete safetensors file ({error})") from None


def weights_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file as bytes; equal tensors and metadata give equal bytes.

    The version of fedcall that wrote the file is added to the metadata. A global model keeps the bytes its aggregator
    gave it at every site, whatever version a site runs; digests and signatures are of the tensors alone.
    """
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    # One entry only: safetensors writes several metadata entries in random order.
    return save(
        ordered, metadata={"fedcall": json.dumps({**metadata, "software": f"fedcall {__version__}"}, sort_keys=True)}
    )


def write_weights(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; equal tensors and metadata give equal bytes."""
    write_bytes(path, weights_bytes(tensors, metadata))
