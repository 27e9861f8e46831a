"""Updates on disk as vectors: all coordinates of an update in the order of its file, read piece by piece.

Strategies and the outlier screen look at coordinates, not at tensors; a read for each tensor of each site would cost
more than their arithmetic. Admission lets in one form only (`update_checks`): float32, the model's trainable tensors,
the bytes that safetensors writes for them. So all updates of a round have the same coordinates at the same places.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.errors import FedcallError

_ITEM_BYTES = 4


@dataclass(frozen=True)
class FlatUpdate:
    """An admitted update as a vector.

    Attributes
    ----------
    shapes : tuple of (name, shape)
        The tensors in the order of their coordinates.
    offset : int
        Bytes of the file before the first coordinate.
    """

    path: Path
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return coordinates `start` to `stop`, fewer at the end: float64, shape (coordinates,)."""
        count = min(stop, self.size) - start
        offset = self.offset + _ITEM_BYTES * start
        return np.fromfile(self.path, "<f4", count, offset=offset).astype(np.float64)

    def split(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Return the tensors of a vector of all coordinates; views of it."""
        tensors, start = {}, 0
        for name, shape in self.shapes:
            stop = start + math.prod(shape)
            tensors[name] = vector[start:stop].reshape(shape)
            start = stop
        return tensors

    def join(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vector of tensors: float64, shape (coordinates,)."""
        return np.concatenate([np.asarray(tensors[name], np.float64).reshape(-1) for name, _ in self.shapes])


def flat_updates(paths: Sequence[Path]) -> list[FlatUpdate]:
    """Open admitted updates of one round.

    Raises
    ------
    FedcallError
        If a file is not the one that was stored when it was admitted: cut short, other tensors, other types.
    """
    updates = [_open(Path(path)) for path in paths]
    for update in updates:
        if update.shapes != updates[0].shapes:
            raise FedcallError(
                f"{update.path}: holds other tensors than {updates[0].path}; restore it from your backup"
            )
    return updates


def _open(path: Path) -> FlatUpdate:
    """Read the header: eight bytes of its length, then JSON (safetensors' README, section "Format")."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    entries = [(entry["data_offsets"][0], name, entry) for name, entry in header.items() if name != "__metadata__"]
    shapes = tuple((name, tuple(entry["shape"])) for _, name, entry in sorted(entries))
    update = FlatUpdate(path, shapes, 8 + length)
    is_float32 = all(entry["dtype"] == "F32" for _, _, entry in entries)
    if not is_float32 or path.stat().st_size != update.offset + _ITEM_BYTES * update.size:
        raise FedcallError(f"{path}: not the float32 update that was admitted; restore it from your backup")
    return update
