"""The trunk by hand equals the network under autograd, unit by unit, whatever else is in the batch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedcall.model.caller import VariantCaller, freeze, single_threaded
from fedcall.model.grad_samplers import UnitGradSampleModule
from fedcall.model.unit_gradients import CallerGradSampleModule, Trunk
from fedcall.study.terms import ModelTerms
from fedcall.training.dp_sgd import unit_losses
from made_rows import TRUNK, Batch, model_with_random_norms, rows, rows_with_reads, some, with_random_chemistry


def gradients(model: VariantCaller, batch: Batch, rows_per_unit: int) -> dict[str, Tensor]:
    with single_threaded():
        private = CallerGradSampleModule(model, rows_per_unit)
        private.backward(unit_losses(private, batch))
        found = {name: p.grad_sample for name, p in private._module.named_parameters() if p.requires_grad}
        private.to_standard_module()
    return found


@pytest.mark.parametrize("rows_per_unit", [1, 4])
def test_caller_grad_sample_module__equals_autograd_per_unit(rows_per_unit):
    model, batch = model_with_random_norms(), rows(12)
    found = gradients(model, batch, rows_per_unit)
    exact, precise = model.double(), tuple(t.double() if t.is_floating_point() else t for t in batch)
    names = [name for name, p in exact.named_parameters() if p.requires_grad]
    assert found.keys() == set(names)
    for unit in range(12 // rows_per_unit):
        own = some(precise, slice(unit * rows_per_unit, (unit + 1) * rows_per_unit))
        expected = torch.autograd.grad(unit_losses(exact, own), [p for p in exact.parameters() if p.requires_grad])
        for name, gradient in zip(names, expected, strict=True):
            assert gradient.abs().max() > 0
            difference = (found[name][unit] - gradient).abs().max() / gradient.abs().max()
            assert difference < 2e-5, name


@pytest.mark.parametrize("trainable", ["chemistry", "chemistry_and_head", "everything"])
def test_caller_grad_sample_module__chemistry_equals_autograd_per_unit(trainable):
    model, batch = with_random_chemistry(model_with_random_norms()), rows_with_reads(12)
    if trainable == "everything":  # the trunk by hand, and the chemistry below it
        model.requires_grad_()
    else:
        freeze(model, ModelTerms(trainable=trainable))
    found = gradients(model, batch, 4)
    precise = tuple(t.double() if t.is_floating_point() else t for t in batch)
    trained = {name: p for name, p in model.double().named_parameters() if p.requires_grad}
    assert found.keys() == trained.keys()
    assert {name.split(".")[0] for name in trained} >= {"chemistry"}
    for unit in range(3):
        own = some(precise, slice(unit * 4, unit * 4 + 4))
        expected = torch.autograd.grad(unit_losses(model, own), list(trained.values()))
        for name, gradient in zip(trained, expected, strict=True):
            difference = (found[name][unit] - gradient).abs().max()
            assert difference <= 2e-5 * max(float(gradient.abs().max()), 1e-3), name
    # Few rows have no indel that stands in a repeat, say.
    assert sum(bool(found[name].any()) for name in trained) > len(trained) - 6


def test_caller_grad_sample_module__logits_equal_the_networks():
    model, batch = model_with_random_norms(), rows(8)
    torch.testing.assert_close(CallerGradSampleModule(model, 4)(*batch[:3]), model(*batch[:3]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows_per_unit", [1, 3, 16])
def test_trunk__a_unit_depends_on_neither_place_nor_batch(rows_per_unit):
    model, units = model_with_random_norms(), 9
    windows = rows(units * rows_per_unit)[0]
    backprops = torch.randn(len(windows), 3 * model.stem.out_channels, generator=torch.Generator().manual_seed(7))

    def outputs(which: list[int]) -> tuple[Tensor, dict]:
        own = [unit * rows_per_unit + row for unit in which for row in range(rows_per_unit)]
        trunk = Trunk(model, len(own), rows_per_unit)
        return trunk.pooled_features(windows[own]).unflatten(0, (len(which), -1)), trunk.gradients(backprops[own])

    with single_threaded():
        pooled, whole = outputs(list(range(units)))
        for which in ([8, 3, 0, 5, 2, 7, 6, 4, 1], [4], [1, 1, 8, 2]):
            again, gradients = outputs(which)
            assert torch.equal(again, pooled[which])
            assert all(torch.equal(gradients[parameter], whole[parameter][which]) for parameter in whole)


def test_caller_grad_sample_module__batches_of_different_sizes_follow_each_other():
    model = model_with_random_norms()
    private = CallerGradSampleModule(model, 2)
    for count in (8, 4, 8):
        batch = rows(count, seed=count)
        private.backward(unit_losses(private, batch))
        kept = model.conv1.weight.grad_sample
        private.backward(unit_losses(private, rows(count, seed=99)))  # may not write into what was handed out
        assert kept.shape[0] == count // 2
        torch.testing.assert_close(kept.sum(0), torch.autograd.grad(unit_losses(model, batch), model.conv1.weight)[0])
        private._calls.clear()  # of the stock pass above, which the hooks of the layers saw


def test_caller_grad_sample_module__a_bad_row_stays_in_its_unit():
    model, batch = model_with_random_norms(), rows(12)
    clean = gradients(model, batch, 4)
    batch[0][5, 3, 7] = np.nan
    spoiled = gradients(model, batch, 4)
    for name in TRUNK:
        found, expected = spoiled[f"{name}.weight"], clean[f"{name}.weight"]
        assert not torch.isfinite(found[1]).all()
        assert torch.equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("trainable", ["head", "norm_and_head"])
def test_caller_grad_sample_module__trains_parts_as_any_module(trainable):
    model, batch = freeze(model_with_random_norms(), ModelTerms(trainable=trainable)), rows(8)
    found = gradients(model, batch, 4)
    with single_threaded():
        stock = UnitGradSampleModule(model, 4)
        stock.backward(unit_losses(stock, batch))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained.keys()
    assert all(torch.equal(found[name], p.grad_sample) for name, p in trained.items())


def test_caller_grad_sample_module__takes_no_part_in_evaluation():
    model, batch = model_with_random_norms(), rows(4)
    private = CallerGradSampleModule(model, 2)
    with torch.inference_mode():
        assert torch.equal(private(*batch[:3]), model(*batch[:3]))
    assert private._calls == []
