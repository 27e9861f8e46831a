"""Contribution 'delta': a patient's own plain steps, clipped, summed exactly, released once a round."""

import numpy as np
import pytest
import torch

from example_patients import trained_model
from fedcall.errors import PrivacyRefusal
from fedcall.experiments.federation import federate, with_sites
from fedcall.model.caller import build_model, freeze, single_threaded, weights_of
from fedcall.privacy.mechanism.noise import StepContext
from fedcall.privacy.mechanism.pooling import SUM_GRID, Share
from fedcall.study.sums import SumLayout, add_modulo, mean_update, vector_multiplier
from fedcall.study.terms import ModelTerms, Study
from fedcall.training.delta_oracle import check_delta
from fedcall.training.dp_sgd import PlainSteps, UnitDPOptimizer, delta_step, train_privately
from fedcall.training.row_sampling import stratify
from fedcall.training.units import collate, draw_local_steps, draw_units
from made_patients import SECRET, patient
from pooled_study import DELTA, POOLED, make_study

NAMES = [f"p{number}" for number in range(6)]
ROWS, STEPS = 8, 3
CONTEXT = StepContext("study", "north", 1, 0, "inputs")


def terms(**changes):
    study = make_study(protection={}, privacy={**DELTA, "local_steps": STEPS, "rows_per_unit": ROWS, **changes})
    return study.privacy


def exact_sum(patients, rate=0.2, clip_norm=0.05, batch=None, share=None, spoil=None) -> np.ndarray:
    """Return the exact sum of the step over all patients, in grid points."""
    privacy = terms(sampling_rate=1.0, clip_norm=clip_norm, noise_multiplier=0.0, max_epsilon=None)
    strata = {name: stratify(patients[name]) for name in sorted(patients)}
    with single_threaded():
        model = trained_model().train()
        optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), privacy, 1, SECRET, share=share)
        units = draw_units(SECRET, CONTEXT, strata, privacy)
        steps = draw_local_steps(SECRET, CONTEXT, strata, units, privacy)
        delta_step(model, optimizer, steps, patients, CONTEXT, PlainSteps(rate, ROWS), batch_units=batch)
    return optimizer.released


@pytest.fixture(scope="module")
def patients():
    return {name: patient(seed) for seed, name in enumerate(NAMES)}


@pytest.mark.parametrize("rate", [0.2, 5.0, 1e30], ids=["steps", "long steps", "not finite"])
@pytest.mark.parametrize("grid", [2**24, SUM_GRID])
def test_delta_step__removing_a_patient_moves_the_sum_by_at_most_the_clip_norm(patients, rate, grid):
    share = Share(0.0, grid)
    whole = exact_sum(patients, rate, share=share)
    for name in NAMES[:3]:
        others = {other: one for other, one in patients.items() if other != name}
        moved = (whole - exact_sum(others, rate, share=share)).astype(object)
        assert sum(value * value for value in moved) <= grid**2
        if rate == 0.2:
            assert sum(value * value for value in moved) > (0.99 * grid) ** 2  # and it is clipped


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_delta_step__sum_does_not_depend_on_physical_batches(patients, batch):
    assert (exact_sum(patients, batch=batch) == exact_sum(patients, batch=6)).all()


def test_draw_local_steps__every_local_step_draws_rows_of_the_same_patients(patients):
    privacy = terms(sampling_rate=1.0)
    strata = {name: stratify(patients[name]) for name in NAMES}
    units = draw_units(SECRET, CONTEXT, strata, privacy)
    steps = draw_local_steps(SECRET, CONTEXT, strata, units, privacy)
    assert [[unit.patient for unit in step] for step in steps] == [NAMES] * STEPS
    assert not all((one.rows == other.rows).all() for one, other in zip(steps[0], steps[1], strict=True))


@pytest.mark.parametrize("trainable", ["head", "norm_and_head", "all"])
def test_train_privately__a_delta_update_is_own_noise_on_the_mean_of_deltas(patients, trainable):
    study = make_study(
        1, protection={}, patients=6, privacy={**DELTA, "rows_per_unit": ROWS, "clip_norm": 0.05, "delta": 1e-2},
        model={"trainable": trainable}, training={"learning_rate": 0.1},
    )  # fmt: skip
    found = [train_privately(trained_model(), study, "site00", 1, patients, SECRET).tensors for _ in range(2)]
    assert all((found[0][name] == found[1][name]).all() for name in found[0])  # the same bytes again
    numbers = np.concatenate([tensor.ravel() for tensor in found[0].values()])
    std = study.privacy.noise_multiplier * 0.05 / (study.privacy.sampling_rate * 6)
    assert numbers.std() == pytest.approx(std, rel=0.15)
    assert found[0].keys() == set(ModelTerms(trainable=trainable).trainable_names(weights_of(build_model())))


def test_train_privately__a_vector_is_the_exact_sum_with_a_share_of_the_noise(patients):
    study = make_study(
        10, patients=6, protection={"mode": "masked", "minimum_sites": 10},
        privacy={**POOLED, **DELTA, "rows_per_unit": ROWS, "delta": 1e-2}, model={"trainable": "head"},
    )  # fmt: skip
    made = train_privately(trained_model(), study, "site00", 1, patients, SECRET).tensors
    assert {tensor.dtype for tensor in made.values()} == {np.dtype(np.int32)}
    numbers = np.concatenate([tensor.ravel() for tensor in made.values()]) / SUM_GRID
    assert numbers.std() == pytest.approx(vector_multiplier(study), rel=0.15)
    assert vector_multiplier(study) == pytest.approx(1.2 / 10**0.5, rel=1e-6)


def test_federate__a_sum_in_the_clear_is_what_sites_updates_average_to(patients):
    """With the noise of a plain study, addition on the grid gives the plain study's model but for the grid itself."""
    # All rows of a patient: another study draws others.
    quiet = {**DELTA, "rows_per_unit": 64, "clip_norm": 0.05, "noise_multiplier": 0.0, "max_epsilon": None}
    common = {"model": {"trainable": "head"}, "training": {"learning_rate": 0.1}, "rounds": 2}
    plain = with_sites(
        make_study(2, protection={}, privacy={**quiet, "sampling_rate": 1.0}, **common), {"a": 4, "b": 2}
    )
    masked = Study.model_validate({**plain.model_dump(), "protection": {"mode": "masked", "minimum_sites": 2}})
    sites = {"a": {name: patients[name] for name in NAMES[:4]}, "b": {name: patients[name] for name in NAMES[4:]}}
    start = weights_of(trained_model())
    one, other = (federate(study, start, sites, SECRET) for study in (plain, masked))
    assert not np.allclose(one["head.weight"], start["head.weight"], atol=1e-4)
    for name, tensor in one.items():
        assert np.allclose(tensor, other[name], atol=8 * 0.05 / SUM_GRID), name


def test_check_delta__refuses_another_start_and_another_patients_rows(patients):
    model = freeze(trained_model(), ModelTerms(trainable="head"))
    privacy = terms(sampling_rate=1.0)
    strata = {name: stratify(patients[name]) for name in NAMES}
    steps = draw_local_steps(SECRET, CONTEXT, strata, draw_units(SECRET, CONTEXT, strata, privacy), privacy)
    own, others = ([collate(step[place : place + 1], patients, ROWS, 1, "cpu") for step in steps] for place in (0, 1))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    copied = trained_model()
    parameters = {name: p for name, p in copied.named_parameters() if name in before}
    sgd = torch.optim.SGD(parameters.values(), lr=0.1)
    for windows, features, log_posteriors, labels, weights in own:
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(copied(windows, features, log_posteriors), labels, reduction="none")
        (loss * weights).sum().backward()
        sgd.step()
    delta = {name: parameters[name].detach() - before[name] for name in before}
    check_delta(model, own, 0.1, delta, 1.0)
    with pytest.raises(PrivacyRefusal, match="not that of plain steps from the global model"):
        check_delta(model, others, 0.1, delta, 1.0)
    with pytest.raises(PrivacyRefusal, match="nothing was released"):
        check_delta(model, own, 0.2, delta, 1.0)


def test_mean_update__of_vectors_of_all_sites_is_the_step_that_was_summed(patients):
    study = make_study(3, patients=6, privacy={**POOLED, **DELTA, "clip_norm": 0.5, "sampling_rate": 0.5})
    layout = SumLayout.of({"head.bias": (3,)})
    vectors = [np.array([SUM_GRID, 0, -SUM_GRID], np.int32)] * 3
    update = mean_update(study, layout, add_modulo(vectors), [site.name for site in study.sites])
    assert update["head.bias"].tolist() == pytest.approx([3 * 0.5 / 9, 0, -3 * 0.5 / 9])
