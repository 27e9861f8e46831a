"""The chemistry as a layer with gradients per unit; computed by kernels on the CPU, wherever the network is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedcall.model import chemistry
from fedcall.model.unit_samplers import UNIT_SAMPLERS, UnitGradients


class Chemistry(nn.Module):
    """From what fragments show to what learned constants add to the log likelihoods.

    Its tensors are frozen until the terms of a study train them (`caller.freeze`).
    """

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in chemistry.TENSORS.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(tensor.shape), requires_grad=False))

    @property
    def is_needed(self) -> bool:
        """Whether it adds anything, or a gradient is wanted: else nobody has to look at reads."""
        return any(parameter.requires_grad or bool(parameter.any()) for parameter in self.parameters())

    def forward(self, observed: Tensor) -> Tensor:
        """Return what is added: float64, shape (b, 3).

        Parameters
        ----------
        observed : int32, from `chemistry.observed`
        """
        return self.of_units(observed, list(self.parameters()))

    def of_units(self, observed: Tensor, constants: Sequence[Tensor], units: int = 1) -> Tensor:
        """Return the same with each unit's own constants: tensors of shape (units, *shape of the parameter)."""
        added: Tensor = _Change.apply(observed, units, *constants)  # type: ignore[no-untyped-call]
        return added


def with_added(log_posteriors: Tensor, added: Tensor) -> Tensor:
    """Return log posteriors with what a chemistry adds, normalised and not below `chemistry.FLOOR`: as they were typed.

    `chemistry.with_chemistry` is the same in numpy.
    """
    joint = torch.log_softmax(log_posteriors.double() + added, 1)
    return joint.to(log_posteriors.dtype).clamp(min=chemistry.FLOOR)


class _Change(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, observed: Tensor, units: int, *constants: Tensor) -> Tensor:
        rows, values = observed.cpu().numpy(), _constants(constants, units)
        context.kept, context.like = (rows, values, units), constants
        return torch.from_numpy(chemistry.change(rows, values)).to(observed.device)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, values, units = context.kept
        parts = _parts(chemistry.change_gradients(rows, values, gradient.cpu().numpy(), units), context.like)
        return None, None, *(part.view(like.shape) for part, like in zip(parts, context.like, strict=True))


def chemistry_gradients(rows: int, layer: Chemistry, observed: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a chemistry from those of what it added: {parameter: (units, *shape)}."""
    parameters = list(layer.parameters())
    joined = chemistry.change_gradients(
        observed.cpu().numpy(), _constants(parameters, 1), backprops.cpu().numpy(), len(observed) // rows
    )
    return {p: part for p, part in zip(parameters, _parts(joined, parameters), strict=True) if p.requires_grad}


def _constants(parameters: Sequence[Tensor], units: int) -> np.ndarray:
    parts = zip(chemistry.TENSORS, parameters, strict=True)
    return chemistry.constants_of({name: part.detach().cpu().numpy() for name, part in parts}, units)


def _parts(joined: np.ndarray, like: Sequence[Tensor]) -> list[Tensor]:
    parts = chemistry.joined_parts(joined).values()
    return [torch.from_numpy(part).to(one) for part, one in zip(parts, like, strict=True)]


UNIT_SAMPLERS[Chemistry] = chemistry_gradients
