"""Vectors of which only the sum over sites is opened: their layout, their sum modulo 2^32, and what it means.

A site's vector holds, in points of `clip norm / 2^16`, the sum of its clipped contributions in the direction of a step
(minus the gradient, or the delta) plus its share of the noise (`privacy.mechanism.pooling`). It travels like an update:
one tensor of int32 for each trained tensor. `check_capacity` made sure, when the study was read, that sums fit.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.privacy.mechanism.pooling import SUM_GRID, share_multiplier
from fedcall.privacy.mechanism.update_noise import NormBounds, sum_norm_bounds
from fedcall.study.terms import Study


@dataclass(frozen=True)
class SumLayout:
    """Which coordinates of a vector belong to which tensor: tensors by name, in the order of their names."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> "SumLayout":
        """Return the layout of tensors of these shapes."""
        return cls(tuple((name, tuple(shapes[name])) for name in sorted(shapes)))

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def flatten(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vector of int32 tensors: int32, shape (size,).

        Raises
        ------
        ValueError
            If the tensors have other names, shapes or types.
        """
        if SumLayout.of({name: tensor.shape for name, tensor in tensors.items()}) != self:
            raise ValueError("the tensors of a vector are not those of the study's model.")
        if any(tensor.dtype != np.int32 for tensor in tensors.values()):
            raise ValueError("a vector that is added over sites holds int32.")
        return np.concatenate([tensors[name].reshape(-1) for name, _ in self.shapes])

    def split(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Return the tensors of a vector; views of it."""
        if vector.shape != (self.size,):
            raise ValueError(f"a vector of {self.size} numbers expected. Found shape {vector.shape}.")
        tensors, start = {}, 0
        for name, shape in self.shapes:
            stop = start + math.prod(shape)
            tensors[name] = vector[start:stop].reshape(shape)
            start = stop
        return tensors


def to_modulo(total: np.ndarray) -> np.ndarray:
    """Return whole numbers (int64) modulo 2^32, as int32 between -2^31 and 2^31 - 1."""
    return total.astype(np.uint64).astype(np.uint32).view(np.int32)


def add_modulo(vectors: Iterable[np.ndarray]) -> np.ndarray:
    """Return the sum of int32 vectors modulo 2^32, in any order the same.

    Examples
    --------
    >>> add_modulo([np.array([2**31 - 1], np.int32), np.array([1], np.int32), np.array([-5], np.int32)])
    array([2147483643], dtype=int32)
    """
    total: np.ndarray | None = None
    for vector in vectors:
        if vector.dtype != np.int32:
            raise ValueError(f"int32 expected. Found {vector.dtype}.")
        words = np.ascontiguousarray(vector).view(np.uint32)
        total = words.copy() if total is None else np.add(total, words, out=total)
    if total is None:
        raise ValueError("a sum needs one vector or more.")
    return total.view(np.int32)


def vector_multiplier(study: Study) -> float:
    """Return the noise scale, over the clip norm, of one site's vector: all of the noise, or its share of it."""
    return share_multiplier(study.privacy.noise_multiplier, study.noise_shares)


def mean_update(study: Study, layout: SumLayout, opened: np.ndarray, sites: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the update that an opened sum means: what these sites' updates, weighted by patients, average to.

    Parameters
    ----------
    study : Study
    layout : SumLayout
        Of the trained tensors.
    opened : int32, shape (layout.size,)
        The sum of the sites' vectors, modulo 2^32.
    sites : sequence of str
        Names of the sites in the sum.

    Returns
    -------
    dict of str to float32 array
        step size · sum · clip norm / 2^16 / (sampling rate · declared units of the sites).
    """
    terms = study.privacy
    divisor = terms.sampling_rate * sum(study.units(name) for name in sites)
    factor = study.step_size * terms.clip_norm / SUM_GRID / divisor
    return layout.split((opened.astype(np.float64) * factor).astype(np.float32))


def opened_bounds(study: Study, sites: Sequence[str], numbers: int) -> NormBounds:
    """Return the norms, in clip norms, that an honest sum of these sites' vectors (over 2^16) cannot leave.

    The floor counts the noise of all but the tolerated sites: those may leave theirs out.
    """
    counted = max(1, len(sites) - study.protection.tolerated_sites)
    return sum_norm_bounds(
        study.privacy,
        sum(study.units(name) for name in sites),
        numbers,
        vector_multiplier(study) * math.sqrt(counted),
        vector_multiplier(study) * math.sqrt(len(sites)),
    )
