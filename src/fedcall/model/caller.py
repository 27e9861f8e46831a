"""The network that corrects a likelihood: small residual convolutions whose output is added to log posteriors."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcall.genomics.examples import CENTRE, FEATURES, IS_INDEL, Examples
from fedcall.model import inference as network
from fedcall.model.chemistry import FLOOR
from fedcall.model.chemistry_layer import Chemistry, with_added
from fedcall.model.encoding import INPUT_CHANNELS
from fedcall.model.inference import ARCHITECTURE, CLASSES, EVIDENCE_SCALE, GROUPS, HEAD_INPUTS, HIDDEN, WIDTH
from fedcall.study.terms import ModelTerms
from fedcall.weights import Weights, read_weights, write_weights

SCHEMA = "fedcall.model/1"

_SEED = 20_250_101


class VariantCaller(nn.Module):
    """A likelihood caller plus a learned correction.

    The last layer, `head`, starts at zero, so the fresh model returns the log posteriors it was given and IS the
    likelihood caller; noise can only move it away from there. The head sees learned features and, beside them, the
    scalar features and the log odds themselves, so that even head-only training can learn what no training has seen
    before (an artefact of one chemistry, say). Everything the head sees is squashed into (-1, 1): a linear head on
    bounded features has bounded gradients, which clipping then hardly distorts.

    Indels have weights of their own in the head: they are a tenth of the variants, so a correction shared with SNPs is
    learned on SNPs and paid by them (docs/results.md).

    Below it lies `chemistry`, the likelihood's own constants, zero as well (`model.chemistry`): given what fragments
    show, it says what other constants would make of the log posteriors, before network and head see them.

    Only Conv1d, GroupNorm, Linear and Chemistry layers hold parameters: those have per-unit gradient samplers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chemistry = Chemistry()
        self.stem = nn.Conv1d(INPUT_CHANNELS, WIDTH, 3, padding=1)
        self.norm0 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv1 = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.norm1 = nn.GroupNorm(GROUPS, WIDTH)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, WIDTH)
        self.hidden = nn.Linear(3 * WIDTH + len(FEATURES), HIDDEN)
        self.head = nn.Linear(HEAD_INPUTS, CLASSES)

    def forward(
        self, windows: Tensor, features: Tensor, log_posteriors: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Return logits of the genotypes.

        Parameters
        ----------
        windows : float32, shape (b, INPUT_CHANNELS, 33)
        features : float32, shape (b, len(FEATURES))
        log_posteriors : float32, shape (b, 3)
            All three as `model.encoding.encode` makes them.
        observed : int32, optional
            From `chemistry.observed`; without it the chemistry is left out.

        Returns
        -------
        float32, shape (b, 3)
        """
        return self.correct(self.pooled(windows), features, self.with_chemistry(log_posteriors, observed))

    def with_chemistry(self, log_posteriors: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return log posteriors by the model's chemistry; one that is untrained and stays so costs nothing."""
        if observed is None or not self.chemistry.is_needed:
            return log_posteriors.clamp(min=FLOOR)
        return with_added(log_posteriors, self.chemistry(observed))

    def pooled(self, windows: Tensor) -> Tensor:
        """Return what the convolutions see: centre, mean and largest of each channel, float32, shape (b, 3 · WIDTH)."""
        x = functional.relu(self.norm0(self.stem(windows)))
        x = x + functional.relu(self.norm1(self.conv1(x)))
        x = x + functional.relu(self.norm2(self.conv2(x)))
        return torch.cat([x[:, :, CENTRE], x.mean(2), Largest.apply(x)], 1)  # type: ignore[no-untyped-call]

    def correct(
        self, pooled: Tensor, features: Tensor, log_posteriors: Tensor, layers: "Layers | None" = None
    ) -> Tensor:
        """Return logits, as `forward` does, from what the convolutions see."""
        head = layers.head if layers else self.head
        logits: Tensor = log_posteriors + head(self.head_inputs(pooled, features, log_posteriors, layers))
        return logits

    def head_inputs(
        self, pooled: Tensor, features: Tensor, log_posteriors: Tensor, layers: "Layers | None" = None
    ) -> Tensor:
        """Return what the head sees: float32 within [-1, 1], shape (b, head.in_features).

        The first half of the columns belongs to SNPs, the second to indels; a row's other half is zero. `layers` stand
        for the model's own last ones.
        """
        hidden = layers.hidden if layers else self.hidden
        squashed = torch.tanh(features)
        learned = torch.tanh(hidden(torch.cat([pooled, squashed], 1)))
        odds = torch.tanh((log_posteriors[:, 1:] - log_posteriors[:, :-1]) / EVIDENCE_SCALE)
        seen = torch.cat([learned, squashed, odds], 1)
        is_indel = features[:, IS_INDEL] > 0
        return (seen[:, None] * torch.stack([~is_indel, is_indel], 1)[:, :, None]).flatten(1)


@dataclass(frozen=True)
class Layers:
    """What computes in place of a caller's last two layers."""

    hidden: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]


class Largest(torch.autograd.Function):
    """`x.amax(2)`, whose gradient is shared among equal largest values as torch shares it, at a fifth of the cost."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        largest = x.amax(2)
        context.save_for_backward(x, largest)
        return largest

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        x, largest = context.saved_tensors
        where = torch.eq(x, largest[:, :, None], out=torch.empty_like(x))
        return where.mul_((gradient / where.sum(2))[:, :, None])


def build_model(terms: ModelTerms | None = None) -> VariantCaller:
    """Return the fresh model: the likelihood caller, with the same bytes on every machine.

    Parameters
    ----------
    terms : ModelTerms, optional
        Parameters that the terms do not train get `requires_grad` False; without terms all but the chemistry are
        trainable.
    """
    model = VariantCaller()
    # PCG64 uniforms and correctly rounded square roots: no platform computes other bytes. torch's own normal
    # initialisation depends on the vector units of the processor.
    generator = np.random.Generator(np.random.PCG64(_SEED))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.startswith("norm"):
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.startswith(("head.", "chemistry.")) or name.endswith("bias"):
                parameter.zero_()
            else:
                bound = np.sqrt(3.0 / np.prod(parameter.shape[1:]))  # variance 1 / fan-in
                values = (2.0 * generator.random(tuple(parameter.shape)) - 1.0) * bound
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return freeze(model, terms) if terms else model


def freeze(model: VariantCaller, terms: ModelTerms) -> VariantCaller:
    """Mark as trainable exactly the parameters that `terms` trains; return the same model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(terms.is_trainable(name))
    return model


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of the model's tensors by name, float32."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def save_model(path: Path, model: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model atomically; equal weights and metadata give equal bytes."""
    write_weights(path, weights_of(model), {**(metadata or {}), "architecture": ARCHITECTURE, "schema": SCHEMA})


def load_model(path: Path) -> VariantCaller:
    """Read a model.

    Raises
    ------
    FedcallError
        If the file is missing or damaged, or its tensors are not those of the architecture, or are not finite.
    """
    return model_from_weights(read_weights(path), str(path))


def model_from_weights(weights: Weights, source: str) -> VariantCaller:
    """Return the model that `weights` describe; errors as of `network.checked_tensors`, and name `source`."""
    tensors = network.checked_tensors(weights, source)
    model = VariantCaller()
    model.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
    return model


def posteriors(model: VariantCaller, examples: Examples) -> np.ndarray:
    """Return genotype probabilities of every candidate, float32, shape (n, 3), as `fedcall call` computes them."""
    return network.posteriors(weights_of(model), examples)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute on one thread with deterministic algorithms inside the block: equal inputs, equal bytes.

    Two threads that contend for two cores are also several times slower than one. The kernels of this model are
    deterministic on a CPU as they are; asking for it only costs every process a second of imports. On a GPU, numbers
    keep all their digits: convolutions would else be rounded to ten bits (TF32).
    """
    threads, has_gpu = torch.get_num_threads(), torch.cuda.is_available()
    rounds = torch.backends.cudnn.allow_tf32
    torch.set_num_threads(1)
    if has_gpu:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if has_gpu:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.allow_tf32 = rounds
