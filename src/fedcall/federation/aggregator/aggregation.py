"""From admitted updates to the next global model, by Flower's own strategies.

Flower's strategies average whole models; here they get updates (local − global), so the global model they know is zero
and what they return is the step to take. Weights are the declared patients, a public number.

All strategies treat a model as one vector of coordinates, so they get it as one, in pieces: the bookkeeping that Flower
does for each array of each site would else take longer than the averages of a small model.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.flat_updates import FlatUpdate, flat_updates
from fedcall.study.aggregation_terms import AggregationTerms
from fedcall.weights import read_weights, weights_digest, write_weights

_WEIGHT = "num-examples"  # Flower's name; ours are the declared patients
_PIECE = 1 << 18  # coordinates that a strategy looks at together: a median of 50 sites holds 100 MB of them
_STRATEGIES: dict[str, Callable[[AggregationTerms], FedAvg]] = {
    "fedavg": lambda terms: FedAvg(),
    "fedmedian": lambda terms: FedMedian(),
    "fedtrimmedavg": lambda terms: FedTrimmedAvg(beta=terms.trim),
    "krum": lambda terms: Krum(num_malicious_nodes=terms.krum.malicious_sites),
    "multikrum": lambda terms: MultiKrum(
        num_malicious_nodes=terms.krum.malicious_sites, num_nodes_to_select=terms.krum.selected_sites
    ),
    "fedadam": lambda terms: FedAdam(
        eta=terms.adam.eta, beta_1=terms.adam.beta_1, beta_2=terms.adam.beta_2, tau=terms.adam.tau
    ),
}


@dataclass(frozen=True)
class Contribution:
    """An accepted update on disk and its weight: the declared patients of its site."""

    site: str
    update: Path
    patients: int


@dataclass(frozen=True)
class Moments:
    """What fedadam remembers from round to round: averages of the step and of its square, float64 tensors by name."""

    first: Mapping[str, np.ndarray]
    second: Mapping[str, np.ndarray]
    steps: int  # taken so far


@dataclass(frozen=True)
class NextGlobal:
    """The next global model, and fedadam's moments after it (None with every other strategy)."""

    tensors: dict[str, np.ndarray]
    moments: Moments | None = None


def next_global(
    base: Mapping[str, np.ndarray],
    contributions: Sequence[Contribution],
    terms: AggregationTerms,
    moments: Moments | None = None,
) -> NextGlobal:
    """Return the base plus the step that the strategy makes of the updates.

    Parameters
    ----------
    base : float32 tensors by name
        The global model the updates were made from.
    contributions : sequence of Contribution
        In any order; they are taken in the order of their sites' names, so that the result is the same bytes.
    moments : Moments or None
        What fedadam remembers; None before its first step.

    Returns
    -------
    NextGlobal
        Averaged in float64. Tensors that no update holds, and a round without updates, are left as they are.
    """
    result = {name: np.array(tensor) for name, tensor in base.items()}
    if not contributions:
        return NextGlobal(result, moments)
    ordered = sorted(contributions, key=lambda contribution: contribution.site)
    updates = flat_updates([contribution.update for contribution in ordered])
    layout = updates[0]
    strategy = _STRATEGIES[terms.strategy](terms)
    steps = moments.steps if moments else 0
    if isinstance(strategy, FedAdam):
        _take_up(strategy, layout, moments)
    replies = [_reply(update, contribution.patients) for update, contribution in zip(updates, ordered, strict=True)]
    arrays, _ = strategy.aggregate_train(steps, replies)
    assert arrays is not None
    average = np.concatenate([arrays[piece].numpy() for piece in _pieces(layout)])
    for name, step in layout.split(terms.server_learning_rate * average).items():
        result[name] = (result[name].astype(np.float64) + step).astype(result[name].dtype)
    if not isinstance(strategy, FedAdam):
        return NextGlobal(result)
    assert strategy.m_t is not None
    assert strategy.v_t is not None
    first, second = (
        layout.split(np.concatenate([past[piece] for piece in _pieces(layout)]))
        for past in (strategy.m_t, strategy.v_t)
    )
    return NextGlobal(result, Moments(first, second, steps + 1))


def apply_update(
    base: Mapping[str, np.ndarray],
    update: Mapping[str, np.ndarray],
    terms: AggregationTerms,
    moments: Moments | None = None,
) -> NextGlobal:
    """Return the base plus the step that the strategy makes of an average that exists already: an opened sum's."""
    with tempfile.TemporaryDirectory(prefix="fedcall-opened-") as folder:
        path = Path(folder) / "update.safetensors"
        write_weights(path, update, {})
        return next_global(base, [Contribution("all", path, 1)], terms, moments)


def quiet_flower() -> None:
    """Let Flower say warnings only in this process; a filter, because importing Flower sets its logger's level."""
    logging.getLogger("flwr").addFilter(lambda record: record.levelno >= logging.WARNING)


def write_moments(path: Path, moments: Moments) -> str:
    """Write fedadam's moments; return the digest of their content."""
    tensors = {f"first.{name}": tensor for name, tensor in moments.first.items()}
    tensors |= {f"second.{name}": tensor for name, tensor in moments.second.items()}
    tensors["steps"] = np.array([moments.steps], np.int64)
    write_weights(path, tensors, {})
    return weights_digest(tensors)


def read_moments(path: Path, digest: str) -> Moments:
    """Read fedadam's moments; FedcallError if they are not those of this digest."""
    weights = read_weights(path)
    if weights.digest != digest:
        raise FedcallError(f"{path}: has digest {weights.digest}, the log says {digest}; restore it from your backup")
    tensors = weights.tensors
    first = {name.removeprefix("first."): tensor for name, tensor in tensors.items() if name.startswith("first.")}
    second = {name.removeprefix("second."): tensor for name, tensor in tensors.items() if name.startswith("second.")}
    return Moments(first, second, int(tensors["steps"][0]))


def _take_up(strategy: FedAdam, layout: FlatUpdate, moments: Moments | None) -> None:
    """Give fedadam its past; its round number is the count of its steps from 0, which corrects the moments' bias."""
    pieces = _pieces(layout)
    strategy.current_arrays = {piece: np.zeros(stop - start) for piece, (start, stop) in pieces.items()}
    if moments:
        first, second = layout.join(moments.first), layout.join(moments.second)
        strategy.m_t = {piece: first[start:stop] for piece, (start, stop) in pieces.items()}
        strategy.v_t = {piece: second[start:stop] for piece, (start, stop) in pieces.items()}


def _pieces(layout: FlatUpdate) -> dict[str, tuple[int, int]]:
    """Return the pieces in which updates are handed over: the first and last coordinate of each, by name."""
    return {str(start): (start, min(start + _PIECE, layout.size)) for start in range(0, layout.size, _PIECE)}


class _Piece(Array):  # type: ignore[misc]  # Flower's types are not followed
    """Coordinates of an update that are read when a strategy asks for them."""

    def __init__(self, update: FlatUpdate, start: int, stop: int) -> None:
        super().__init__(dtype="float64", shape=(stop - start,), stype="numpy.ndarray", data=b"")
        self._place = update, start, stop

    def numpy(self) -> Any:
        """Return the coordinates: float64."""
        update, start, stop = self._place
        return update.read(start, stop)


class _Reply:
    """What a strategy looks at in a site's message: its content, and that it is no error."""

    def __init__(self, content: RecordDict) -> None:
        self.content = content

    def has_error(self) -> bool:
        return False


def _reply(update: FlatUpdate, patients: int) -> Any:
    arrays = ArrayRecord()  # filled one by one: made from a dictionary, it would copy what the arrays hold
    for piece, (start, stop) in _pieces(update).items():
        arrays[piece] = _Piece(update, start, stop)
    return _Reply(RecordDict({"arrays": arrays, "metrics": MetricRecord({_WEIGHT: patients})}))
