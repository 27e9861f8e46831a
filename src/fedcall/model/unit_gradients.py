"""The caller's trunk forward and backward by hand, with gradients per unit: what a private step on a CPU computes.

With channels last and the three taps of a convolution written side by side ("unfolded"), a convolution is one matrix
product, and the gradient of its weight for a unit is another one with the same unfolded input, over the rows and
positions of that unit. So inputs are laid out once for both, and what lies between products is one pass over a row
(`trunk_kernels`). Every product has the shape of one unit, whatever the batch: a unit's gradient depends neither on its
place nor on its neighbours.

The network itself is `model.VariantCaller`; a test holds both equal.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedcall.genomics.examples import CENTRE, WINDOW
from fedcall.model import trunk_kernels
from fedcall.model.caller import VariantCaller
from fedcall.model.grad_samplers import UnitGradSampleModule
from fedcall.model.unit_samplers import UNIT_SAMPLERS, UnitGradients


class CallerGradSampleModule(UnitGradSampleModule):
    """UnitGradSampleModule of a VariantCaller, its trunk by hand where all of that is trainable and on a CPU.

    A batch's buffers are used again by the next: call `backward` before the next forward pass.
    """

    _trunk: "Trunk | None" = None

    def forward(self, *inputs: Tensor, **options: Any) -> Tensor:
        """Return logits, as the module does."""
        if options or not self._computes_trunk(inputs[0]):
            logits: Tensor = super().forward(*inputs, **options)
            return logits
        windows, features, log_posteriors, *observed = inputs
        if self._trunk is None or self._trunk.rows != len(windows):
            self._trunk = Trunk(self._module, len(windows), self.rows_per_unit)
        pooled = self._trunk.pooled_features(windows).requires_grad_()
        self._calls.append((self._trunk, windows, pooled))
        posteriors = self._module.with_chemistry(log_posteriors, *observed)
        logits = self._module.correct(pooled, features, posteriors)
        return logits

    def _computes_trunk(self, windows: Tensor) -> bool:
        model = self._module
        return (
            isinstance(model, VariantCaller)
            and windows.device.type == "cpu"
            and windows.dtype == model.stem.weight.dtype == torch.float32
            and len(windows) % self.rows_per_unit == 0
            and self.hooks_enabled
            and model.training
            and torch.is_grad_enabled()
            and all(p.requires_grad for layers in blocks_of(model) for layer in layers for p in layer.parameters())
        )


def blocks_of(model: VariantCaller) -> list[tuple[nn.Conv1d, nn.GroupNorm]]:
    """Return convolution and norm of each block; all blocks but the first are residual."""
    return [(model.stem, model.norm0), (model.conv1, model.norm1), (model.conv2, model.norm2)]


class Trunk:
    """From windows to pooled features of `rows` rows: a layer with `Trunk.gradients` for a sampler.

    All units have the model's weights, or, after `move`, each unit its own.
    """

    def __init__(self, model: VariantCaller, rows: int, rows_per_unit: int) -> None:
        width = model.stem.out_channels
        self.rows, self.units = rows, rows // rows_per_unit
        before = _buffer(rows, WINDOW, width)
        self.blocks = [_Block(layers, self.units, rows_per_unit, before) for layers in blocks_of(model)]
        self.x = _buffer(rows, WINDOW, width)
        self.pooled = _buffer(rows, 3, width)

    def move(self, deltas: UnitGradients) -> None:
        """Let each unit compute with the model's weights plus its own delta: {parameter: (units, *shape)}."""
        for block in self.blocks:
            block.deltas = deltas

    def pooled_features(self, windows: Tensor) -> Tensor:
        """Return centre, mean and largest of the last block's channels, float32, shape (rows, 3 · channels)."""
        trunk_kernels.unfold_windows(windows.numpy(), self.blocks[0].unfolded)
        self.x.fill(0)
        for number, block in enumerate(self.blocks):
            if number:
                trunk_kernels.unfold(self.x, block.unfolded)
            block.add_to(self.x)
        trunk_kernels.pool(self.x, CENTRE, self.pooled)
        return torch.from_numpy(self.pooled.reshape(self.rows, -1).copy())

    def gradients(self, backprops: Tensor) -> UnitGradients:
        """Return gradients per unit of all parameters of the trunk: {parameter: (units, *shape)}; once a pass.

        Its buffers become those of gradients.
        """
        trunk_kernels.pool_backward(self.x, CENTRE, self.pooled, backprops.reshape(self.pooled.shape).numpy())
        samples = {}
        for block in reversed(self.blocks):
            samples.update(block.gradients(self.x))
            if block is not self.blocks[0]:
                block.add_input_gradient(self.x)
        return samples


class _Block:
    """A convolution, its norm and a rectifier on (units · rows, positions, channels)."""

    def __init__(self, layers: tuple[nn.Conv1d, nn.GroupNorm], units: int, rows: int, before: np.ndarray) -> None:
        """Make the block's own buffers; the gradients before the norms of all blocks take turns in `before`."""
        self.convolution, self.norm = layers
        self.deltas: UnitGradients | None = None  # of each unit from the model's weights
        self.before = before
        width, channels, kernel = self.convolution.weight.shape
        total = units * rows
        self.unfolded = _buffer(total, WINDOW, kernel, channels)
        self.scale = _buffer(total, width)
        self.normalised = _buffer(total, WINDOW, width)
        # The same memory as matrices, one per unit.
        self._inputs, self._outputs, self._output_gradient = (
            torch.from_numpy(array).view(units, rows * WINDOW, -1)
            for array in (self.unfolded, self.normalised, self.before)
        )
        self._units = units

    def add_to(self, x: np.ndarray) -> None:
        """Add the block's output, computed from `unfolded`, to x."""
        torch.bmm(self._inputs, self._weight().transpose(1, 2), out=self._outputs)
        bias, weight, shift = self._vectors()
        trunk_kernels.norm_relu(
            self.normalised, bias, weight, shift, self.norm.num_groups, self.norm.eps, self.scale, x
        )

    def gradients(self, gradient: np.ndarray) -> UnitGradients:
        """Return gradients per unit of the block's parameters from that of its output."""
        _, weight, shift = self._vectors()
        width, channels, kernel = self.convolution.weight.shape
        vectors = np.empty((self._units, 3, width), np.float32)
        trunk_kernels.norm_relu_backward(
            gradient, self.normalised, self.scale, weight, shift, self.norm.num_groups, self.before, vectors
        )
        taps = torch.bmm(self._output_gradient.transpose(1, 2), self._inputs)
        weights = np.empty((self._units, width, channels, kernel), np.float32)
        trunk_kernels.taps_last(taps.view(self._units, width, kernel, channels).numpy(), weights)
        assert self.convolution.bias is not None  # as the caller makes them
        parameters = [self.norm.weight, self.norm.bias, self.convolution.bias, self.convolution.weight]
        samples = [*torch.from_numpy(vectors).unbind(1), torch.from_numpy(weights)]
        return dict(zip(parameters, samples, strict=True))

    def add_input_gradient(self, gradient: np.ndarray) -> None:
        """Add the gradient of the block's input, which `gradients` prepared, to that of its output."""
        torch.bmm(self._output_gradient, self._weight(), out=self._inputs)  # nobody needs the inputs any more
        trunk_kernels.fold(self.unfolded, gradient)

    def _weight(self) -> Tensor:
        """Return the weight as matrices in the order of unfolded inputs, one for each unit."""
        weight = self.convolution.weight.detach()
        if self.deltas is None:
            return weight.transpose(1, 2).flatten(1).expand(self._units, -1, -1)
        return (weight + self.deltas[self.convolution.weight]).transpose(2, 3).flatten(2)

    def _vectors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the convolution's bias and the norm's weight and bias of each unit: float32, shape (units, width)."""
        assert self.convolution.bias is not None
        bias, weight, shift = (
            self._of_units(parameter) for parameter in (self.convolution.bias, self.norm.weight, self.norm.bias)
        )
        return bias, weight, shift

    def _of_units(self, parameter: Tensor) -> np.ndarray:
        value = parameter.detach()
        moved = value.expand(self._units, -1) if self.deltas is None else value + self.deltas[parameter]
        return moved.contiguous().numpy()


def _buffer(*shape: int) -> np.ndarray:
    return torch.empty(shape).numpy()  # on the boundaries that matrix products like


def trunk_gradients(_rows: int, trunk: Trunk, _windows: Tensor, backprops: Tensor) -> UnitGradients:
    """Return gradients per unit of a trunk's last forward pass."""
    return trunk.gradients(backprops)


UNIT_SAMPLERS[Trunk] = trunk_gradients
