"""Updates on disk as vectors: all coordinates of an update in the order of its file, read piece by piece.

Strategies and the outlier screen look at coordinates, not at tensors; a read for each tensor of each site would cost
more than their arithmetic. Admission lets in one form only (`update_checks`): float32 (int32 where updates are masked),
the model's trainable tensors, the bytes that safetensors writes for them. So all updates of a round have the same
coordinates at the same places.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

    def words(self) -> np.ndarray:
        """Return all coordinates of a masked update: uint32, shape (size,)."""
        return np.fromfile(self.path, "<u4", self.size, offset=self.offset)

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


def flat_updates(paths: Sequence[Path], dtype: Literal["F32", "I32"] = "F32") -> list[FlatUpdate]:
    """Open admitted updates of one round; `dtype` as safetensors names it.

    Raises
    ------
    FedcallError
        If a file is not the one that was stored when it was admitted: cut short, other tensors, other types.
    """
    updates = [_open(Path(path), dtype) for path in paths]
    for update in updates:
        if update.shapes != updates[0].shapes:
            raise FedcallError(
                f"{update.path}: holds other tensors than {updates[0].path}; restore it from your backup"
            )
    return updates


def _open(path: Path, dtype: str) -> FlatUpdate:
    """Read the header: eight bytes of its length, then JSON (safetensors' README, section "Format")."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    entries = [(entry["data_offsets"][0], name, entry) for name, entry in header.items() if name != "__metadata__"]
    shapes = tuple((name, tuple(entry["shape"])) for _, name, entry in sorted(entries))
    update = FlatUpdate(path, shapes, 8 + length)
    is_of_type = all(entry["dtype"] == dtype for _, _, entry in entries)
    if not is_of_type or path.stat().st_size != update.offset + _ITEM_BYTES * update.size:
        raise FedcallError(f"{path}: not the {dtype} update that was admitted; restore it from your backup")
    return update
