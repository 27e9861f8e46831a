"""A caller whose convolutions nobody trains: what they see of a row is computed once, and looked up ever after.

Experiments train the same people hundreds of times, mostly the head or the chemistry alone. Then the trunk sees the
same in each training, and computing it again is most of the time. Trainings of a study never do this.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedcall.model.caller import VariantCaller
from fedcall.study.terms import ModelTerms

_TRUNK = ("stem.", "norm", "conv")


class TrunkMemory:
    """What one trunk sees of windows, by their content; made for one first model, for as many trainings as wanted."""

    def __init__(self, initial: Mapping[str, np.ndarray]) -> None:
        self._trunk = {name: tensor for name, tensor in initial.items() if name.startswith(_TRUNK)}
        self.pooled: dict[bytes, Tensor] = {}

    def serves(self, terms: ModelTerms, tensors: Mapping[str, np.ndarray]) -> bool:
        """Say whether trainings by these terms, from these tensors, leave the trunk as it is remembered."""
        return not any(terms.is_trainable(name) for name in self._trunk) and all(
            np.array_equal(tensors[name], tensor) for name, tensor in self._trunk.items()
        )


class FrozenTrunkCaller(VariantCaller):
    """A VariantCaller that asks its memory before it computes what its trunk sees."""

    def __init__(self, memory: TrunkMemory) -> None:
        super().__init__()
        self._memory = memory

    def pooled(self, windows: Tensor) -> Tensor:
        """Return what the convolutions see, as VariantCaller does, without a gradient for the trunk."""
        known = self._memory.pooled
        keys = [hashlib.blake2b(row, digest_size=16).digest() for row in windows.numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in known}
        if new:
            with torch.no_grad():
                seen = super().pooled(windows[list(new.values())])
            known.update(zip(new, seen, strict=True))
        return torch.stack([known[key] for key in keys])
