"""Gradients per unit on Opacus' extension points: a patient's bag of rows counts as one long example.

For a layer with weight W the gradient of a bag is Σ_rows B_r A_rᵀ, that is one matrix product over the fused axis of
rows and positions. So a gradient per patient costs less than a gradient per row, and nothing per row is ever stored
(book-keeping: Bu et al. 2022, "Differentially private optimization on large model at small cost").
"""

from collections.abc import Callable
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn import functional

from fedcall.errors import FedcallError

UnitGradients = dict[Tensor, Tensor]
"""Of each parameter, one gradient per unit: shape (units, *shape of the parameter)."""


class UnitGradSampleModule(GradSampleModule):  # type: ignore[misc]  # Opacus has no types
    """Opacus' GradSampleModule with one gradient per unit of `rows_per_unit` consecutive rows.

    The batch must hold a whole number of units, and the loss must be a sum over rows. Call `backward` of this module
    with the loss, not the loss's own: only gradients of layer outputs are computed then, which saves the summed
    gradients that nobody uses, and everything before the first trainable layer.

    Raises FedcallError for a model that Opacus' ModuleValidator rejects, with its reasons: a layer that mixes units,
    batch normalisation for instance, has no gradient per unit.
    """

    def __init__(self, module: nn.Module, rows_per_unit: int) -> None:
        errors = ModuleValidator.validate(module, strict=False)
        if errors:
            reasons = "; ".join(" ".join(str(error).split()) for error in errors)
            raise FedcallError(f"model {type(module).__name__} cannot be trained privately: {reasons}")
        self.rows_per_unit = rows_per_unit
        super().__init__(module, loss_reduction="sum")

    def add_hooks(self, **options: Any) -> None:
        """Register forward hooks that keep inputs and outputs of all layers with trainable parameters."""
        # Hides the class's table, by which Opacus walks the layers: bags need other samplers than rows.
        self.GRAD_SAMPLERS = UNIT_SAMPLERS
        self._calls: list[tuple[object, Tensor, Tensor]] = []
        self._module.autograd_grad_sample_hooks = self.autograd_grad_sample_hooks = []
        for layer in self.iterate_submodules(self._module):
            if type(layer) not in UNIT_SAMPLERS:
                raise NotImplementedError(f"no per-unit gradient for a layer of type {type(layer).__name__}")
            self.autograd_grad_sample_hooks.append(layer.register_forward_hook(self._capture_call_hook))
        self.enable_hooks()

    def backward(self, loss: Tensor) -> None:
        """Set `grad_sample`, shape (units, *parameter), of all trainable parameters."""
        # Opacus' own hook copies each sample into zeros first, for layers that run several times a pass.
        calls, self._calls = self._calls, []
        backprops = torch.autograd.grad(loss, [output for _, _, output in calls])
        samples: UnitGradients = {}
        for (layer, inputs, _), backprop in zip(calls, backprops, strict=True):
            for parameter, sample in UNIT_SAMPLERS[type(layer)](self.rows_per_unit, layer, inputs, backprop).items():
                samples[parameter] = samples[parameter] + sample if parameter in samples else sample
        for parameter, sample in samples.items():
            parameter.grad_sample = sample  # type: ignore[attr-defined]

    def _capture_call_hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.hooks_enabled and layer.training and torch.is_grad_enabled():
            self._calls.append((layer, inputs[0].detach(), output))


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
