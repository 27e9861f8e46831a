"""Random rows for the network, and a network whose norms are no identities."""

import torch
from torch import Tensor

from example_patients import trained_model
from fedcall.genomics.examples import SCALARS, WINDOW
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
    scalars = torch.randn(count, len(SCALARS), generator=generator)
    log_posteriors = torch.log_softmax(3 * torch.randn(count, 3, generator=generator), 1)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return windows, scalars, log_posteriors, labels, torch.rand(count, generator=generator) + 0.5


def some(batch: Batch, which: slice | list[int]) -> Batch:
    return tuple(one[which] for one in batch)
