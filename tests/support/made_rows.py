"""Random rows for the network, and a network whose norms are no identities."""

import numpy as np
import torch
from torch import Tensor

from example_patients import trained_model
from fedcall.experiments.canaries import make_canary
from fedcall.genomics.examples import FEATURES, WINDOW, Examples, concatenate
from fedcall.model import chemistry
from fedcall.model.caller import VariantCaller
from fedcall.model.encoding import INPUT_CHANNELS

TRUNK = ("stem", "norm0", "conv1", "norm1", "conv2", "norm2")
Batch = tuple[Tensor, ...]


def model_with_random_norms() -> VariantCaller:
    model = trained_model()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(TRUNK):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.train()


def rows(count: int, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    windows = torch.rand(count, INPUT_CHANNELS, WINDOW, generator=generator)
    windows[::3, :, 5:] = 0  # equal largest values, which share their gradient
    features = torch.randn(count, len(FEATURES), generator=generator)
    log_posteriors = torch.log_softmax(3 * torch.randn(count, 3, generator=generator), 1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return windows, features, log_posteriors, labels, torch.rand(count, generator=generator) + 0.5


def people_with_reads(count: int, seed: int = 1) -> Examples:
    """Return a row each of people whose fragments show anything at all."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return concatenate([make_canary(generator, 1) for _ in range(count)])


def rows_with_reads(count: int, seed: int = 1) -> Batch:
    """Return `rows`, and what fragments show in each."""
    return *rows(count, seed), torch.from_numpy(chemistry.observed(people_with_reads(count, seed), np.arange(count)))


def with_random_chemistry(model: VariantCaller) -> VariantCaller:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.chemistry.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def some(batch: Batch, which: slice | list[int]) -> Batch:
    return tuple(one[which] for one in batch)
