"""Invariants 1 and 2 over the likelihood's own constants: the patient is clipped, by gradients and by deltas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcall.errors import FedcallError
from fedcall.experiments.canaries import make_canary
from fedcall.genomics.examples import Examples, concatenate, empty_examples
from fedcall.model import chemistry
from fedcall.model.caller import build_model, freeze, single_threaded, weights_of
from fedcall.model.unit_gradients import CallerGradSampleModule
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.noise import StepContext
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study, TrainingTerms
from fedcall.training.dp_sgd import PlainSteps, UnitDPOptimizer, delta_step, draw_units, private_step, train_privately
from fedcall.training.row_sampling import stratify
from fedcall.training.units import draw_local_steps

SECRET = bytes(range(32))
CONTEXT = StepContext("study", "north", 1, 0, "inputs")
ROWS = 8
SITES = (Site(name="north", public_key="A" * 43 + "=", node_key="ssh", patients=10),)
KINDS = ["gaussian", "laplace", "delta"]


def patient(seed: int, rows: int = 12) -> Examples:
    """Return somebody whose reads deny the labels: gradients are long, and clipping bites."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return concatenate([make_canary(generator, 1) for _ in range(rows)])


@pytest.fixture(scope="module")
def patients() -> dict[str, Examples]:
    return {f"p{number}": patient(number) for number in range(4)}


def terms(kind: str, **changes) -> PrivacyTerms:
    if kind == "delta":
        changes |= {"contribution": "delta", "local_steps": 2, "steps_per_round": 1}
    else:
        changes |= {"mechanism": kind}
    return PrivacyTerms(rows_per_unit=ROWS, sampling_rate=1.0, noise_multiplier=0.0, max_epsilon=None, **changes)


def step_sum(patients: dict[str, Examples], kind: str, clip_norm: float = 0.05) -> np.ndarray:
    """Return the exact sum of one step on all patients, in grid points."""
    privacy = terms(kind, clip_norm=clip_norm)
    strata = {name: stratify(one) for name, one in sorted(patients.items())}
    with single_threaded():
        model = freeze(build_model(), ModelTerms(trainable="chemistry")).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = UnitDPOptimizer(torch.optim.SGD(trained, lr=1.0), privacy, 1, SECRET)
        units = draw_units(SECRET, CONTEXT, strata, privacy)
        assert len(units) == len(patients)
        if kind == "delta":
            steps = draw_local_steps(SECRET, CONTEXT, strata, units, privacy)
            delta_step(model, optimizer, steps, patients, CONTEXT, PlainSteps(0.1, ROWS))
        else:
            private_step(CallerGradSampleModule(model, ROWS), optimizer, units, patients, CONTEXT)
    assert len(optimizer.released) == sum(int(np.prod(shape)) for shape in chemistry.SHAPES.values())
    return optimizer.released


def spoil(examples: Examples, how: str | None) -> Examples:
    if how == "likelihoods":
        return replace(examples, log_likelihoods=np.full_like(examples.log_likelihoods, np.nan))
    if how == "fragments":  # no 32 bits lead a kernel astray
        noise = np.random.default_rng(0).integers(0, 2**32, examples.observations.shape, np.uint32)
        return replace(examples, observations=noise)
    return examples


@pytest.mark.parametrize("how", [None, "likelihoods", "fragments"])
@pytest.mark.parametrize("kind", KINDS)
def test_private_step__removing_a_patient_moves_the_sum_by_at_most_the_clip_norm(kind, how, patients):
    everybody = patients | {"p1": spoil(patients["p1"], how)}
    whole = step_sum(everybody, kind)
    for name in everybody:
        rest = {other: one for other, one in everybody.items() if other != name}
        moved = [int(value) for value in whole - step_sum(rest, kind)]
        size = sum(map(abs, moved)) if kind == "laplace" else sum(value * value for value in moved)
        most = GRID if kind == "laplace" else GRID**2
        assert size <= most
        if name == "p1" and how == "likelihoods":
            assert size == 0  # what is not a number counts as nothing
        elif how is None:
            assert size > 0.97 * most  # and it is clipped


@pytest.mark.parametrize("kind", KINDS)
def test_train_privately__an_update_of_chemistry_alone(kind, patients):
    study = Study(
        name="s",
        sites=SITES,
        model=ModelTerms(trainable="chemistry"),
        training=TrainingTerms(learning_rate=0.05),
        privacy=terms(kind, clip_norm=1.0, **({} if kind == "delta" else {"steps_per_round": 3})),
    )
    model = build_model()
    before = weights_of(model)
    made = train_privately(model, study, "north", 1, patients, SECRET).tensors
    assert made.keys() == set(chemistry.SHAPES)
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in made.values())
    assert sum(bool(tensor.any()) for tensor in made.values()) > 10
    for name, tensor in weights_of(model).items():
        assert name in made or np.array_equal(tensor, before[name])


def test_train_privately__nobodys_rows_are_a_round_like_any_other():
    agreed = terms("gaussian", clip_norm=1.0).model_copy(update={"noise_multiplier": 1.0})
    study = Study(name="s", sites=SITES, model=ModelTerms(trainable="chemistry"), privacy=agreed)
    made = train_privately(build_model(), study, "north", 1, {"a": empty_examples()}, SECRET).tensors
    assert made.keys() == set(chemistry.SHAPES)
    assert all(tensor.all() for tensor in made.values())  # noise in every number


def test_check_weights__a_first_model_without_chemistry():
    older = [name for name in weights_of(build_model()) if not name.startswith(chemistry.PREFIX)]
    ModelTerms(trainable="all").check_weights(older, "first.safetensors")
    for part in ("chemistry", "chemistry_and_head"):
        with pytest.raises(FedcallError, match=r"^first\.safetensors: made before .*'fedcall train-public'"):
            ModelTerms(trainable=part).check_weights(older, "first.safetensors")
