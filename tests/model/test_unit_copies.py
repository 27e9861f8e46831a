"""Each unit's copy of the model takes its own plain steps, whatever else is in the batch."""

import copy

import pytest
import torch
from torch import Tensor

from fedcall.model.caller import VariantCaller, freeze, single_threaded
from fedcall.model.unit_copies import UnitCopies
from fedcall.study.terms import ModelTerms
from fedcall.training.dp_sgd import unit_losses
from made_rows import Batch, model_with_random_norms, rows_with_reads, some, with_random_chemistry

ROWS, UNITS, STEPS, RATE = 4, 3, 3, 0.05
PARTS = ["all", "norm_and_head", "head", "chemistry", "chemistry_and_head"]


def model_of(trainable: str) -> VariantCaller:
    return freeze(with_random_chemistry(model_with_random_norms()), ModelTerms(trainable=trainable))


def batches(count: int = UNITS) -> list[Batch]:
    return [rows_with_reads(count * ROWS, seed) for seed in range(STEPS)]


def deltas(model: VariantCaller, steps: list[Batch], units: int = UNITS) -> dict[str, Tensor]:
    with single_threaded():
        copies = UnitCopies(model, units, ROWS)
        for batch in steps:
            copies.step(unit_losses(copies, batch), RATE)
    return {name: copies.deltas[p] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("trainable", PARTS)
def test_unit_copies__take_plain_steps_on_their_own_rows(trainable):
    model = model_of(trainable)
    found = deltas(model, batches())
    # Few rows have no indel that stands in a repeat, say.
    assert all(delta.any() for name, delta in found.items() if not name.startswith("chemistry."))
    assert sum(bool(delta.any()) for delta in found.values()) > len(found) - 6
    for unit in range(UNITS):
        alone = copy.deepcopy(model).double()
        trained = {name: p for name, p in alone.named_parameters() if p.requires_grad}
        assert found.keys() == trained.keys()
        before = {name: p.detach().clone() for name, p in trained.items()}
        sgd = torch.optim.SGD(trained.values(), lr=RATE)
        for batch in batches():
            own = some(batch, slice(unit * ROWS, (unit + 1) * ROWS))
            sgd.zero_grad()
            unit_losses(alone, tuple(t.double() if t.is_floating_point() else t for t in own)).backward()
            sgd.step()
        for name, parameter in trained.items():
            moved = (parameter.detach() - before[name]).float()
            torch.testing.assert_close(found[name][unit], moved, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("trainable", PARTS)
def test_unit_copies__a_delta_depends_on_neither_place_nor_neighbours(trainable):
    model = model_of(trainable)
    found = deltas(model, batches())
    order = [8, 9, 10, 11, 0, 1, 2, 3]  # the last unit and the first, in a smaller batch
    others = deltas(model, [some(batch, order) for batch in batches()], units=2)
    for name, delta in found.items():
        assert torch.equal(others[name], delta[[2, 0]]), name


@pytest.mark.parametrize("trainable", PARTS)
def test_unit_copies__a_bad_row_stays_in_its_unit(trainable):
    model, steps = model_of(trainable), batches()
    sound = deltas(model, steps)
    steps[0][2][5] = float("nan")
    spoiled = deltas(model, steps)
    assert not all(torch.isfinite(delta[1]).all() for delta in spoiled.values())
    for name, delta in sound.items():
        assert torch.equal(spoiled[name][[0, 2]], delta[[0, 2]])


def test_unit_copies__start_again_from_the_models_weights():
    model, [batch, *_] = model_of("all"), batches()
    copies = UnitCopies(model, UNITS, ROWS)
    found = []
    for _ in range(2):
        copies.start()
        copies.step(unit_losses(copies, batch), RATE)
        found.append([delta.clone() for delta in copies.deltas.values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
