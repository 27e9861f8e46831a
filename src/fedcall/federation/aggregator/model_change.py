"""How much a closed round changed the global model, from the coordinator's files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.weights import read_weights


@dataclass(frozen=True)
class Change:
    """What a round changed.

    Attributes
    ----------
    norm : L2 norm of the difference of the models going into and coming out of the round
    relative : that, divided by the norm of the model going in; None if that model is zero
    """

    norm: float
    relative: float | None


@lru_cache(maxsize=4096)
def model_change(state: Path, number: int) -> Change:
    """Return what round `number` changed; it must be closed, and then never changes again."""
    files = StudyFiles(state)
    before, after = (read_weights(files.model(one)).tensors for one in (number, number + 1))
    change = _norm([after[name] - before[name] for name in before])
    size = _norm(list(before.values()))
    return Change(change, change / size if size else None)


def _norm(tensors: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(float(np.square(tensor, dtype=np.float64).sum()) for tensor in tensors)))
