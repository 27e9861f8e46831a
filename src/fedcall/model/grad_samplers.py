"""Gradients per unit on Opacus' extension points: each layer's are in `unit_samplers` and beside the layer."""

from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from fedcall.errors import FedcallError
from fedcall.model.unit_samplers import UNIT_SAMPLERS, UnitGradients


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
        # Hides the class's table, by which Opacus walks the layers: units of several rows need other samplers.
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
