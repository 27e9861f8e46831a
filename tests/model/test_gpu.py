"""What a GPU promises (`device: cuda`): the same release from the same inputs on the same kind of card, exact sums."""

import multiprocessing

import numpy as np
import pytest
import torch

from example_patients import trained_model, write_patient
from fedcall.genomics.examples import open_examples
from fedcall.model.caller import single_threaded
from fedcall.model.unit_gradients import CallerGradSampleModule
from fedcall.privacy.mechanism.clipping import GRID, from_grid
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import Site, Study
from fedcall.training.dp_sgd import UnitDPOptimizer, draw_units, private_step, rows_of_a_unit, train_privately
from fedcall.training.rounds import choose_device
from fedcall.training.row_sampling import stratify

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SECRET = bytes(range(32))
CONTEXT = StepContext("study", "north", 1, 0, "inputs")
UNITS = {"patient": {"unit": "patient"}, "example": {"unit": "example", "examples_per_patient": 40}}
NEAR = 1e-4
"""Norm by which the clipped gradient of a unit may differ between a GPU and a CPU, in clip norms: both compute in
float32, which keeps seven digits; were tensor cores let in with their ten bits (TF32), it would be 10^-3."""


@pytest.fixture(scope="module", autouse=True)
def gpu():
    return choose_device("cuda")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    return {f"p{seed}": open_examples(write_patient(folder / f"p{seed}.safetensors", seed)) for seed in range(9)}


@pytest.fixture(params=UNITS.values(), ids=UNITS.keys())
def terms(request) -> PrivacyTerms:
    return PrivacyTerms(sampling_rate=1.0, steps_per_round=3, rows_per_unit=16, delta=1e-3, **request.param)


def units_of(patients, terms):
    return draw_units(SECRET, CONTEXT, {name: stratify(one) for name, one in patients.items()}, terms)


def step(patients, units, terms, device):
    """Return the exact sum of a step, the noisy sum and the gradient that moves the weights."""
    released, gradients = [], []

    def remember(secret, context, total, *rest):
        released.append((total.copy(), noisy_sum(secret, context, total, *rest)))
        return released[-1][1]

    with single_threaded(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedcall.training.dp_sgd.noisy_sum", remember)
        model = CallerGradSampleModule(trained_model().to(device).train(), rows_of_a_unit(terms))
        optimizer = UnitDPOptimizer(torch.optim.SGD(model.parameters(), lr=0.0), terms, 1, SECRET)
        optimizer.attach_step_hook(lambda o: gradients.append(torch.cat([p.grad.flatten() for p in o.params])))
        private_step(model, optimizer, units, patients, CONTEXT, device)
    (total, noisy), gradient = released[0], gradients[0]
    assert gradient.device.type == torch.device(device).type
    return total, noisy, gradient.cpu().numpy()


def update_bytes(patients, terms) -> bytes:
    sites = (Site(name="north", public_key="A" * 43 + "=", node_key="ssh", patients=9),)
    study = Study(name="s", sites=sites, privacy=terms)
    tensors = train_privately(
        trained_model(), study, "north", 1, patients, SECRET, device=choose_device("auto")
    ).tensors
    return b"".join(tensors[name].tobytes() for name in sorted(tensors))


def test_train_privately__releases_the_same_bytes_again(patients, terms):
    first = update_bytes(patients, terms)
    assert first == update_bytes(patients, terms)
    with multiprocessing.get_context("spawn").Pool(1) as another_process:
        assert first == another_process.apply(update_bytes, (patients, terms))


def test_private_step__sum_does_not_depend_on_order(patients, terms):
    """Batches have one fixed shape: kernels for another shape round differently (seen on an H200), unlike on a CPU."""
    units = units_of(patients, terms)
    total, noisy, gradient = step(patients, units, terms, "cuda")
    again, noisy_again, gradient_again = step(patients, units[::-1], terms, "cuda")
    assert (total == again).all()
    assert (noisy == noisy_again).all()
    assert (gradient == gradient_again).all()


def test_private_step__a_unit_does_not_depend_on_its_neighbours(patients, terms):
    """Invariant 1: who is left out changes the places of all who follow, and must not change what they contribute."""
    units = units_of(patients, terms)
    whole, _, _ = step(patients, units, terms, "cuda")
    for left_out in (0, 3, len(units) - 1):
        rest, _, _ = step(patients, units[:left_out] + units[left_out + 1 :], terms, "cuda")
        alone, _, _ = step(patients, [units[left_out]], terms, "cuda")
        assert (whole - rest == alone).all()
        assert 0 < sum(int(x) ** 2 for x in alone) <= GRID**2


def test_private_step__noise_is_the_cpus_and_exact(patients, terms):
    units = units_of(patients, terms)
    total, noisy, gradient = step(patients, units, terms, "cuda")
    assert total.dtype == noisy.dtype == np.int64
    expected = noisy_sum(SECRET, CONTEXT, total, terms.mechanism, terms.noise_multiplier)
    assert (noisy == expected).all()
    assert (noisy != total).mean() > 0.99
    moved = from_grid(noisy, terms.clip_norm).astype(np.float32)
    assert (gradient == moved / np.float32(terms.sampling_rate * 1)).all()


def test_private_step__contributions_are_the_cpus_up_to_rounding(patients, terms):
    for unit in units_of(patients, terms)[::7]:
        here, _, _ = step(patients, [unit], terms, "cpu")
        there, _, _ = step(patients, [unit], terms, "cuda")
        assert np.linalg.norm((here - there) / GRID) < NEAR
