"""The chemistry as a layer with gradients per unit; computed by kernels on the CPU, whatever device the network is on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedcall.model import chemistry
from fedcall.model.grad_samplers import UNIT_SAMPLERS, UnitGradients


class Chemistry(nn.Module):
    """From log posteriors as examples hold them, and what fragments show, to log posteriors by learned constants."""

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in chemistry.TENSORS.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(tensor.shape)))

    @property
    def is_trained(self) -> bool:
        """Whether a gradient is wanted for the constants."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, log_posteriors: Tensor, observed: Tensor) -> Tensor:
        """Return log posteriors: float32, shape (b, 3), not below `chemistry.FLOOR`.

        Parameters
        ----------
        log_posteriors : float32, shape (b, 3), from `encoding.encode`
        observed : int32, from `chemistry.observed`
        """
        return self.of_units(log_posteriors, observed, list(self.parameters()), 1)

    def of_units(self, log_posteriors: Tensor, observed: Tensor, constants: list[Tensor], units: int) -> Tensor:
        """Return the same with constants of each unit's own: tensors of shape (units, *shape of the parameter)."""
        judged: Tensor = _Judged.apply(log_posteriors, observed, units, *constants)  # type: ignore[no-untyped-call]
        return judged

    def unit_gradients(self, rows: int, observed: Tensor, added: Tensor) -> UnitGradients:
        """Return gradients per unit of `rows` rows, from those of what was added to log posteriors."""
        constants = _constants(list(self.parameters()), 1)
        rows_of_all = observed.cpu().numpy()
        joined = chemistry.change_gradients(rows_of_all, constants, added.cpu().numpy(), len(rows_of_all) // rows)
        parts = _parts(joined, added)
        return {p: part for p, part in zip(self.parameters(), parts, strict=True) if p.requires_grad}


class _Judged(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, log_posteriors: Tensor, observed: Tensor, units: int, *constants: Tensor) -> Tensor:
        values = _constants(list(constants), units)
        rows = observed.cpu().numpy()
        result = chemistry.judged(log_posteriors.cpu().numpy(), chemistry.change(rows, values))
        context.kept = rows, values, units, result
        context.like = log_posteriors
        context.shapes = [constant.shape for constant in constants]
        return torch.from_numpy(result).to(log_posteriors)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, values, units, result = context.kept
        added = added_gradient(gradient, torch.from_numpy(result))
        joined = chemistry.change_gradients(rows, values, added.numpy(), units)
        parts = [part.view(shape) for part, shape in zip(_parts(joined, context.like), context.shapes, strict=True)]
        return None, None, None, *parts


def added_gradient(gradient: Tensor, judged: Tensor) -> Tensor:
    """Return the gradient of what was added to log posteriors, float64 on the CPU, from that of the judged ones."""
    gradient, judged = gradient.double().cpu(), judged.double().cpu()
    passed = torch.where(judged > chemistry.FLOOR, gradient, torch.zeros_like(gradient) * gradient)
    return passed - torch.softmax(judged, 1) * passed.sum(1, keepdim=True)


def _constants(parameters: list[Tensor], units: int) -> np.ndarray:
    parts = zip(chemistry.TENSORS, parameters, strict=True)
    return chemistry.constants_of({name: part.detach().cpu().numpy() for name, part in parts}, units)


def _parts(joined: np.ndarray, like: Tensor) -> list[Tensor]:
    return [torch.from_numpy(part).to(like) for part in chemistry.joined_parts(joined).values()]


class ChemistryPass:
    """One forward pass of a chemistry, for a sampler: its inputs, and the posteriors that it gave."""

    def __init__(self, layer: Chemistry, log_posteriors: Tensor, observed: Tensor) -> None:
        self.layer = layer
        with torch.no_grad():
            self.judged = layer(log_posteriors, observed)
        self.judged.requires_grad_()


def chemistry_gradients(rows: int, made: ChemistryPass, observed: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a chemistry's last pass: {parameter: (units, *shape)}."""
    return made.layer.unit_gradients(rows, observed, added_gradient(backprops, made.judged.detach()).to(backprops))


UNIT_SAMPLERS[ChemistryPass] = chemistry_gradients
