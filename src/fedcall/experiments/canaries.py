"""Canary patients: made up, alike in all of their rows, and easy to tell from one another by their gradients."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples
from fedcall.genomics.observations import BITS, REPEAT, Observed, pack
from fedcall.model.caller import VariantCaller
from fedcall.model.chemistry import observed
from fedcall.model.encoding import encode

_FRAGMENTS = 12
SURE = 8.0
"""Nats by which a canary's reads speak for a genotype that is not its label: the gradient is long, clipping bites."""


def make_canary(generator: np.random.Generator, rows: int) -> Examples:
    """Return a patient of `rows` equal rows with random features and a label that its reads deny."""
    label, believed = generator.choice(3, 2, replace=False)
    likelihoods = np.full(3, -SURE)
    likelihoods[believed] = 0.0

    def repeat(values: np.ndarray) -> np.ndarray:
        return np.repeat(np.asarray(values)[None], rows, axis=0)

    # From a stream of their own, so that canaries for the network stay what they were.
    fragments = _random_fragments(generator.spawn(1)[0])
    return make_examples(
        [("C", "T")] * rows,
        {"contigs": '["canary"]'},
        counts=repeat(generator.integers(0, 40, (len(COUNT_CHANNELS), WINDOW))),
        reference=repeat(generator.integers(0, 4, WINDOW)),
        features=repeat(generator.choice([-3.0, 3.0], len(FEATURES))),
        log_likelihoods=repeat(likelihoods),
        labels=np.full(rows, label),
        contig=np.zeros(rows),
        position=np.arange(rows),
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 40),
        observations=np.tile(fragments, rows),
        observation_offsets=np.arange(rows + 1) * len(fragments),
        repeats=repeat(generator.spawn(1)[0].integers(0, 12, len(REPEAT))),
    )


def _random_fragments(generator: np.random.Generator) -> np.ndarray:
    """Return fragments that show anything at all, packed: uint32."""
    columns = {name: generator.integers(0, 1 << bits, _FRAGMENTS) for name, bits in BITS.items()}
    return pack(Observed(**columns | {"orientation": columns["orientation"] % 3 - 1}))


def spread(pulls: np.ndarray, count: int) -> list[int]:
    """Choose `count` canaries that pull in different directions: rows of `pulls`, float64, shape (canaries, values).

    Each is the one that stands out most from those before it (pivoted Gram-Schmidt), so that a guesser confuses few.
    """
    left, chosen = pulls.copy(), [0]
    while len(chosen) < count:
        axis = left[chosen[-1]] / np.linalg.norm(left[chosen[-1]])
        left -= np.outer(left @ axis, axis)
        lengths = np.linalg.norm(left, axis=1)
        lengths[chosen] = -1.0
        chosen.append(int(lengths.argmax()))
    return chosen


def directions(model: VariantCaller, canaries: Mapping[str, Examples]) -> tuple[list[str], np.ndarray]:
    """Return what the guesser knows: the direction in which each canary pulls the model.

    Plain autograd, one canary at a time: none of the code under audit is used.

    Returns
    -------
    names : list of str
        Tensors with a gradient other than zero, in the order of the columns. (The fresh model's head is zero, so no
        gradient passes it: only the head is listed.)
    directions : float64, shape (canaries, values)
        Rows of length 1.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parameters = dict(model.named_parameters())
    first = _gradient(model, next(iter(canaries.values())), [parameters[name] for name in names])
    names = [name for name, part in zip(names, first, strict=True) if part.any()]
    rows = [
        np.concatenate([part.ravel() for part in _gradient(model, canary, [parameters[name] for name in names])])
        for canary in canaries.values()
    ]
    gradients = np.array(rows, np.float64)
    return names, gradients / np.linalg.norm(gradients, axis=1, keepdims=True)


def _gradient(model: VariantCaller, canary: Examples, parameters: list[torch.Tensor]) -> list[np.ndarray]:
    row = np.zeros(1, np.int64)
    inputs = [torch.from_numpy(array) for array in (*encode(canary, row), observed(canary, row))]
    label = torch.from_numpy(canary.labels[row].astype(np.int64))
    loss = functional.cross_entropy(model(*inputs), label)
    return [part.numpy() for part in torch.autograd.grad(loss, parameters)]
