"""The caller's network in numpy: what a command that only calls needs of it, without the seconds torch takes to import.

`training.model.VariantCaller` is the same network with gradients; a test holds the two equal.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from fedcall.errors import FedcallError
from fedcall.genomics.examples import CENTRE, FEATURES, IS_INDEL, WINDOW, Examples
from fedcall.genomics.reads.workspace import Workspace
from fedcall.genomics.side_by_side import side_by_side
from fedcall.model import chemistry, trunk_kernels
from fedcall.model.encoding import INPUT_CHANNELS, encode, unfloored_log_posteriors
from fedcall.progress import progress
from fedcall.weights import Weights

ARCHITECTURE = "pileup_residual"
CLASSES = 3
"""Genotypes 0/0, 0/1 and 1/1: copies of the alternative allele."""
WIDTH = 40
GROUPS = 8
HIDDEN = 64
EVIDENCE_SCALE = 4.0
"""Nats of log odds at which the head's view of the likelihood begins to saturate."""
HEAD_INPUTS: int = 2 * (HIDDEN + len(FEATURES) + CLASSES - 1)

SHAPES: dict[str, tuple[int, ...]] = {
    "stem.weight": (WIDTH, INPUT_CHANNELS, 3),
    **{f"conv{layer}.weight": (WIDTH, WIDTH, 3) for layer in (1, 2)},
    **{f"{layer}.bias": (WIDTH,) for layer in ("stem", "conv1", "conv2")},
    **{f"norm{layer}.{name}": (WIDTH,) for layer in range(3) for name in ("weight", "bias")},
    "hidden.weight": (HIDDEN, 3 * WIDTH + len(FEATURES)),
    "hidden.bias": (HIDDEN,),
    "head.weight": (CLASSES, HEAD_INPUTS),
    "head.bias": (CLASSES,),
    **chemistry.SHAPES,
}
"""Tensors of a whole model, all float32."""

_OLD_CHEMISTRY = chemistry.PREFIX + "ends"
_NORM_EPSILON = 1e-5
_BATCH_ROWS = 64
"""Rows computed at once: their values between the layers stay in a processor's cache."""
_PIECE_ROWS = 8 * _BATCH_ROWS
_WORKER_ROWS = 4_096
"""Rows below which starting a worker costs more than it saves."""

Tensors = Mapping[str, np.ndarray]


def checked_tensors(weights: Weights, source: str) -> dict[str, np.ndarray]:
    """Return the tensors of a whole model; errors name `source`.

    Raises
    ------
    FedcallError
        If they are not those of the architecture, or not finite.
    """
    found = weights.metadata.get("architecture", ARCHITECTURE)
    if found != ARCHITECTURE:
        raise FedcallError(f"{source}: architecture '{found}', this version of fedcall runs '{ARCHITECTURE}'")
    tensors = dict(weights.tensors)
    if not any(name.startswith(chemistry.PREFIX) for name in tensors):  # made before models had one: as untrained
        tensors |= {name: np.zeros(shape, np.float32) for name, shape in chemistry.SHAPES.items()}
    if _OLD_CHEMISTRY in tensors:
        raise FedcallError(
            f"{source}: made by an older fedcall, whose chemistry did not tell a read's two ends apart; train it again"
            " with this version"
        )
    for name in sorted(SHAPES.keys() | tensors.keys()):
        if name not in tensors:
            raise FedcallError(f"{source}: tensor '{name}' is missing; this is no whole '{ARCHITECTURE}' model")
        if name not in SHAPES:
            raise FedcallError(f"{source}: tensor '{name}' does not belong to a '{ARCHITECTURE}' model")
        tensor = tensors[name]
        if tensor.shape != SHAPES[name] or tensor.dtype != np.float32:
            raise FedcallError(
                f"{source}: tensor '{name}' is {tensor.dtype} {tensor.shape}, float32 {SHAPES[name]} expected"
            )
        if not np.isfinite(tensor).all():
            raise FedcallError(f"{source}: tensor '{name}' holds values that are not finite")
    return tensors


def posteriors(tensors: Tensors, examples: Examples, threads: int = 1) -> np.ndarray:
    """Return genotype probabilities of every candidate; a row's do not depend on what other rows there are.

    Parameters
    ----------
    tensors : as `checked_tensors` returns them
    examples : Examples
        n rows.
    threads : processes to work in; the result does not depend on it

    Returns
    -------
    float32, shape (n, 3)
        P(0/0), P(0/1), P(1/1); rows sum to 1.
    """
    pieces = [range(at, min(at + _PIECE_ROWS, len(examples))) for at in range(0, len(examples), _PIECE_ROWS)]
    learned = chemistry.chemistry_of(tensors)
    with progress("calling", len(examples), "candidates") as done:
        shown = 0

        def show(count: int) -> None:
            nonlocal shown
            done.advance(pieces[count - 1].stop - shown)
            shown = pieces[count - 1].stop

        work = partial(_posteriors, tensors, examples, learned)
        workers = min(threads, 1 + len(examples) // _WORKER_ROWS)
        found = side_by_side(work, pieces, workers, show)
    return np.concatenate([np.empty((0, CLASSES), np.float32), *found])


def _posteriors(
    tensors: Tensors, examples: Examples, learned: np.ndarray | None, _: Workspace, piece: range
) -> np.ndarray:
    result = np.empty((len(piece), CLASSES), np.float32)
    is_silent = not (tensors["head.weight"].any() or tensors["head.bias"].any())
    for start in range(0, len(piece), _BATCH_ROWS):
        rows = np.array(piece[start : start + _BATCH_ROWS])
        added = None if learned is None else chemistry.change(chemistry.observed(examples, rows), learned)
        if is_silent:  # as before training, and where chemistry alone is trained: whatever the trunk sees adds nothing
            values = chemistry.with_chemistry(unfloored_log_posteriors(examples, rows), added)
        else:
            values = logits(tensors, *encode(examples, rows), added)
        odds = np.exp(values - values.max(1, keepdims=True))
        result[start : start + len(rows)] = odds / odds.sum(1, keepdims=True)
    return result


def logits(
    tensors: Tensors,
    windows: np.ndarray,
    features: np.ndarray,
    log_posteriors: np.ndarray,
    added: np.ndarray | None = None,
) -> np.ndarray:
    """Return logits of the genotypes, float32, shape (b, 3); inputs as `encoding.encode` makes them.

    `added` is what the model's chemistry adds to the log posteriors (`chemistry.change`); nothing by default.

    Each row is a product of its own to BLAS, with the same shape in any batch: equal rows give equal bytes.
    """
    log_posteriors = chemistry.with_chemistry(log_posteriors, added)
    squashed = np.tanh(features)
    pooled = np.concatenate([_pooled_features(tensors, windows), squashed], 1)
    learned = np.tanh(_linear(tensors, "hidden", pooled))
    odds = np.tanh((log_posteriors[:, 1:] - log_posteriors[:, :-1]) / np.float32(EVIDENCE_SCALE))
    seen = np.concatenate([learned, squashed, odds], 1)
    is_indel = (features[:, IS_INDEL, None] > 0).astype(np.float32)
    values: np.ndarray = log_posteriors + _linear(
        tensors, "head", np.concatenate([seen * (1 - is_indel), seen * is_indel], 1)
    )
    return values


def _pooled_features(tensors: Tensors, windows: np.ndarray) -> np.ndarray:
    """Return centre, mean and largest of the trunk's last channels, float32, shape (b, 3 · WIDTH).

    Channels lie last, and a convolution's three taps side by side: each convolution is one product a row.
    """
    rows = len(windows)
    x, z = np.zeros((rows, WINDOW, WIDTH), np.float32), np.empty((rows, WINDOW, WIDTH), np.float32)
    scale, pooled = np.empty((rows, WIDTH), np.float32), np.empty((rows, 3, WIDTH), np.float32)
    unfolded = np.empty((rows, WINDOW, 3, INPUT_CHANNELS), np.float32)
    trunk_kernels.unfold_windows(np.ascontiguousarray(windows), unfolded)
    for number, layer in enumerate(("stem", "conv1", "conv2")):
        if number == 1:
            unfolded = np.empty((rows, WINDOW, 3, WIDTH), np.float32)
        if number:
            trunk_kernels.unfold(x, unfolded)
        weight = tensors[f"{layer}.weight"]
        taps = np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(3 * weight.shape[1], WIDTH)
        np.matmul(unfolded.reshape(rows, WINDOW, len(taps)), taps, out=z)
        bias, *norm = (tensors[name][None] for name in (f"{layer}.bias", f"norm{number}.weight", f"norm{number}.bias"))
        trunk_kernels.norm_relu(z, bias, norm[0], norm[1], GROUPS, _NORM_EPSILON, scale, x)
    trunk_kernels.pool(x, CENTRE, pooled)
    return pooled.reshape(rows, 3 * WIDTH)


def _linear(tensors: Tensors, layer: str, x: np.ndarray) -> np.ndarray:
    values: np.ndarray = (tensors[f"{layer}.weight"] @ x[:, :, None])[:, :, 0] + tensors[f"{layer}.bias"]
    return values
