"""Gradients per unit of the ordinary layers: a patient's rows together count as one long example.

For a layer with weight W the gradient of a unit is Σ_rows B_r A_rᵀ, that is one matrix product over the fused axis of
rows and positions. So a gradient per patient costs less than a gradient per row, and nothing per row is ever stored
(book-keeping: Bu et al. 2022, "Differentially private optimization on large model at small cost"). Who makes a model
or calls with one imports these, and not Opacus, which takes seconds (`grad_samplers`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

UnitGradients = dict[Tensor, Tensor]
"""Of each parameter, one gradient per unit: shape (units, *shape of the parameter)."""


def conv1d_gradients(rows: int, layer: nn.Conv1d, inputs: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a Conv1d without groups or dilation: {parameter: (units, *shape)}."""
    if layer.groups != 1 or layer.dilation != (1,) or isinstance(layer.padding, str):
        raise NotImplementedError("Conv1d with groups, dilation or named padding")
    (kernel,), (stride,), (padding,) = layer.kernel_size, layer.stride, layer.padding
    gradients: UnitGradients = {}
    if layer.weight.requires_grad:
        # Rows lie end to end, each with its padding; where a tap would reach into the next row, backprops are zero.
        length = inputs.shape[2] + 2 * padding
        padded = _end_to_end(inputs, rows, length, start=padding)
        spread = _end_to_end(backprops, rows, length, stride=stride)
        span = padded.shape[2] - kernel + 1
        taps = padded.new_empty((len(padded), kernel, *layer.weight.shape[:2]))
        for tap in range(kernel):
            taps[:, tap] = torch.bmm(spread[:, :, :span], padded[:, :, tap : tap + span].transpose(1, 2))
        gradients[layer.weight] = taps.movedim(1, 3)
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = backprops.sum(2).unflatten(0, (-1, rows)).sum(1)
    return gradients


def _end_to_end(values: Tensor, rows: int, length: int, start: int = 0, stride: int = 1) -> Tensor:
    """Return (rows of all units, channels, positions) as (units, channels, rows · length), zero between the values."""
    by_unit = values.unflatten(0, (-1, rows)).transpose(1, 2)
    result = values.new_zeros((*by_unit.shape[:3], length))
    result[..., start : start + stride * values.shape[2] : stride] = by_unit
    return result.flatten(2)


def group_norm_gradients(rows: int, layer: nn.GroupNorm, inputs: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a GroupNorm: {parameter: (units, channels)}."""
    gradients: UnitGradients = {}
    if layer.weight.requires_grad:
        normalised = functional.group_norm(inputs, layer.num_groups, eps=layer.eps)
        gradients[layer.weight] = normalised.mul_(backprops).sum(2).unflatten(0, (-1, rows)).sum(1)
    if layer.bias.requires_grad:
        gradients[layer.bias] = backprops.sum(2).unflatten(0, (-1, rows)).sum(1)
    return gradients


def linear_gradients(rows: int, layer: nn.Linear, inputs: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a Linear layer on (rows, features): {parameter: (units, *shape)}."""
    by_unit = backprops.unflatten(0, (-1, rows))
    gradients: UnitGradients = {}
    if layer.weight.requires_grad:
        gradients[layer.weight] = torch.bmm(by_unit.transpose(1, 2), inputs.unflatten(0, (-1, rows)))
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = by_unit.sum(1)
    return gradients


UNIT_SAMPLERS: dict[type, Callable[..., UnitGradients]] = {
    nn.Conv1d: conv1d_gradients,
    nn.GroupNorm: group_norm_gradients,
    nn.Linear: linear_gradients,
}
