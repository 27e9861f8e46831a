"""From admitted updates to the next global model, by Flower's own strategies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg

from fedcall.federation.study import AggregationTerms
from fedcall.weights import read_weights

_STRATEGIES: dict[str, type[FedAvg]] = {"fedavg": FedAvg, "fedmedian": FedMedian, "fedtrimmedavg": FedTrimmedAvg}
_WEIGHT = "num-examples"  # Flower's name; ours are the declared patients


@dataclass(frozen=True)
class Contribution:
    """An accepted update on disk and its weight: the declared patients of its site."""

    site: str
    update: Path
    patients: int


def next_global(
    base: Mapping[str, np.ndarray], contributions: Sequence[Contribution], terms: AggregationTerms
) -> dict[str, np.ndarray]:
    """Return the base plus the server learning rate times the average of the updates.

    Parameters
    ----------
    base : float32 tensors by name
        The global model the updates were made from.
    contributions : sequence of Contribution
        In any order; they are taken in the order of their sites' names, so that the result is the same bytes.

    Returns
    -------
    float32 tensors by name
        Averaged in float64. Tensors that no update holds, and a round without updates, are left as they are.
    """
    result = {name: np.array(tensor) for name, tensor in base.items()}
    if not contributions:
        return result
    ordered = sorted(contributions, key=lambda contribution: contribution.site)
    arrays, _ = _STRATEGIES[terms.strategy]().aggregate_train(0, [_reply(contribution) for contribution in ordered])
    assert arrays is not None
    for name, average in arrays.items():
        step = terms.server_learning_rate * average.numpy().astype(np.float64)
        result[name] = (result[name].astype(np.float64) + step).astype(result[name].dtype)
    return result


class _Reply:
    """What a strategy looks at in a site's message: its content, and that it is no error."""

    def __init__(self, content: RecordDict) -> None:
        self.content = content

    def has_error(self) -> bool:
        return False


def _reply(contribution: Contribution) -> Any:
    tensors = read_weights(contribution.update).tensors
    arrays = ArrayRecord({name: Array(tensors[name].astype(np.float64)) for name in sorted(tensors)})
    return _Reply(RecordDict({"arrays": arrays, "metrics": MetricRecord({_WEIGHT: contribution.patients})}))
