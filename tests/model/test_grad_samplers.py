"""Gradients per unit equal what autograd computes for each unit alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedcall.errors import FedcallError
from fedcall.model.grad_samplers import UnitGradSampleModule


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(5, 8, 3, padding=1)
        self.norm1 = nn.GroupNorm(2, 8)
        self.second = nn.Conv1d(8, 4, 5, stride=2, bias=False)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.norm1(self.first(x)))
        return self.last(self.second(x).mean(2))


def losses(model, x, y):
    return functional.cross_entropy(model(x), y, reduction="sum")


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("frozen", [(), ("first", "second"), ("norm1", "first", "second")])
def test_unit_grad_sample_module__equals_autograd_per_unit(rows, frozen):
    torch.manual_seed(0)
    model = Small().double()
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    x, y = torch.randn(12, 5, 17, dtype=torch.float64), torch.randint(0, 3, (12,))
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    expected = [
        torch.autograd.grad(losses(model, x[i : i + rows], y[i : i + rows]), list(trainable.values()))
        for i in range(0, 12, rows)
    ]
    wrapped = UnitGradSampleModule(model.train(), rows)
    wrapped.backward(losses(wrapped, x, y))
    for position, parameter in enumerate(trainable.values()):
        assert parameter.grad is None  # summed gradients are never computed
        assert parameter.grad_sample.shape == (12 // rows, *parameter.shape)
        stacked = torch.stack([gradients[position] for gradients in expected])
        torch.testing.assert_close(parameter.grad_sample, stacked, rtol=1e-10, atol=1e-12)


def test_unit_grad_sample_module__takes_no_part_in_evaluation():
    model = UnitGradSampleModule(Small().train(), 2)
    with torch.inference_mode():
        model(torch.randn(2, 5, 17))
    x = torch.randn(4, 5, 17)
    model.backward(losses(model, x, torch.zeros(4, dtype=torch.int64)))
    assert model._module.last.weight.grad_sample.shape == (2, 3, 4)


def test_unit_grad_sample_module__refuses_layers_it_cannot_bound():
    with pytest.raises(NotImplementedError, match="Embedding"):
        UnitGradSampleModule(nn.Sequential(nn.Embedding(3, 2)), 1)


def test_unit_grad_sample_module__a_bad_row_stays_in_its_unit():
    model = UnitGradSampleModule(Small().train(), 2)
    x = torch.randn(6, 5, 17)
    x[2] = np.nan
    model.backward(losses(model, x, torch.zeros(6, dtype=torch.int64)))
    finite = torch.isfinite(model._module.first.weight.grad_sample).flatten(1).all(1)
    assert finite.tolist() == [True, False, True]


def test_unit_grad_sample_module__refuses_what_opacus_rejects_with_the_reason():
    mixing = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4))
    with pytest.raises(FedcallError, match=r"Sequential cannot be trained privately: BatchNorm"):
        UnitGradSampleModule(mixing, 4)
