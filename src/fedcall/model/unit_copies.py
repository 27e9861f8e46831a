"""A copy of the model for each unit, and plain SGD steps of each copy on its unit's rows alone.

The copies share the model's weights; each has a delta of its own, which begins at zero. All copies compute in one
batch: the trunk by hand (`unit_gradients`), the last layers as one product per unit, so that a unit's delta depends
neither on its place nor on its neighbours. Where only part of the trunk is trained, or the trunk is on a GPU, copies
compute one after the other.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedcall.model.caller import Layers, VariantCaller
from fedcall.model.chemistry_layer import with_added
from fedcall.model.unit_gradients import Trunk, blocks_of

Deltas = dict[Tensor, Tensor]
"""Of each trained parameter, one delta per unit: shape (units, *shape of the parameter)."""


class UnitCopies:
    """Copies of a model for `units` units of `rows_per_unit` consecutive rows each."""

    def __init__(self, model: VariantCaller, units: int, rows_per_unit: int) -> None:
        self._model, self._units, self._rows = model, units, rows_per_unit
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        trunk = [p for layers in blocks_of(model) for layer in layers for p in layer.parameters()]
        self._trunk: Trunk | None = None
        if all(p.requires_grad for p in trunk) and trunk[0].device.type == "cpu":
            self._trunk = Trunk(model, units * rows_per_unit, rows_per_unit)
        self._in_one_batch = self._trunk is not None or not any(p.requires_grad for p in trunk)
        self._leaves: Deltas = {}
        self._pooled: Tensor | None = None
        self.start()

    def start(self) -> None:
        """Put all copies back to the model's weights, for other units."""
        self.deltas: Deltas = {p: p.new_zeros((self._units, *p.shape)) for p in self._trained.values()}
        if self._trunk is not None:
            self._trunk.move(self.deltas)

    def __call__(self, windows: Tensor, features: Tensor, log_posteriors: Tensor, *observed: Tensor) -> Tensor:
        """Return logits, as the model does, each row by its unit's copy."""
        self._leaves = {p: (p.detach() + self.deltas[p]).requires_grad_() for p in self._trained.values()}
        if not self._in_one_batch:
            return self._one_by_one(windows, features, log_posteriors, *observed)
        if self._trunk is None:
            with torch.no_grad():
                pooled = self._model.pooled(windows)
        else:
            self._pooled = pooled = self._trunk.pooled_features(windows).requires_grad_()
        layers = Layers(self._layer(self._model.hidden), self._layer(self._model.head))
        return self._model.correct(pooled, features, self._with_chemistry(log_posteriors, *observed), layers)

    def step(self, loss: Tensor, rate: float) -> None:
        """Move each copy down the gradient of its own rows' share of the loss, a sum over rows of the last call."""
        moved = [p for p in self._trained.values() if self._trunk is None or self._is_last(p)]
        at = [self._leaves[p] for p in moved]
        seen = [] if self._pooled is None else [self._pooled]
        found = torch.autograd.grad(loss, [*at, *seen])
        gradients: Deltas = dict(zip(moved, found, strict=False))  # what is left over is that of what the trunk made
        if self._trunk is not None:
            gradients.update(self._trunk.gradients(found[-1]))
        for parameter, gradient in gradients.items():
            self.deltas[parameter].sub_(gradient, alpha=rate)

    def of_unit(self, unit: int) -> dict[str, Tensor]:
        """Return one unit's delta of each trained tensor, by name."""
        return {name: self.deltas[p][unit] for name, p in self._trained.items()}

    def _is_last(self, parameter: Tensor) -> bool:
        last = (self._model.hidden, self._model.head, self._model.chemistry)
        return any(parameter is p for layer in last for p in layer.parameters())

    def _with_chemistry(self, log_posteriors: Tensor, *observed: Tensor) -> Tensor:
        chemistry = self._model.chemistry
        if not observed or not any(p in self._leaves for p in chemistry.parameters()):
            return self._model.with_chemistry(log_posteriors, *observed)
        constants = [self._leaves[p] for p in chemistry.parameters()]
        return with_added(log_posteriors, chemistry.of_units(observed[0], constants, self._units))

    def _layer(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        if not layer.weight.requires_grad:
            return layer
        weight, bias = self._leaves[layer.weight], self._leaves[layer.bias]

        def of_each_unit(inputs: Tensor) -> Tensor:
            by_unit = inputs.unflatten(0, (self._units, self._rows))
            return torch.baddbmm(bias[:, None], by_unit, weight.transpose(1, 2)).flatten(0, 1)

        return of_each_unit

    def _one_by_one(self, *inputs: Tensor) -> Tensor:
        rows = [torch.split(one, self._rows) for one in inputs]
        logits = []
        for unit in range(self._units):
            own = {name: self._leaves[p][unit] for name, p in self._trained.items()}
            logits.append(functional_call(self._model, own, tuple(one[unit] for one in rows)))
        return torch.cat(logits)
