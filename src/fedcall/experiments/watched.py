"""The audit's scene of several rounds and steps: made-up patients, a trained head, all tensors, under the oracle.

Other scenes take one step of one round with a fresh head, whose zeros let no gradient pass to the layers before it.
Here every tensor gets a gradient, and `training.oracle` says of each step whether it was made as agreed. With the
oracle switched off, what the steps released is looked at from outside (`releases`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fedcall.errors import PrivacyRefusal
from fedcall.experiments.canaries import make_canary
from fedcall.experiments.federation import with_sites
from fedcall.experiments.releases import find_fault, released_sums
from fedcall.genomics.examples import Examples
from fedcall.model.caller import VariantCaller, build_model
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Study, TrainingTerms
from fedcall.training import dp_sgd

ROUNDS, STEPS, PATIENTS, RATE, NOISE = 3, 8, 12, 0.5, 1.4
"""So that twice the sampling rate, or one draw for all steps, cannot be chance in a single round."""

DELTA_PATIENTS, DELTA_ROWS, LOCAL_STEPS = 48, 16, 2
"""Of a scene with one noisy sum a round: so many draws that twice the rate is no chance, and more than one batch."""

_ROWS = 4
_SITE = "audited"
_LOCAL_RATE = 0.02  # with which local steps of a trained model move past the clip norm, and do not diverge


@dataclass(frozen=True)
class Watched:
    """What the oracle said of a scene.

    Attributes
    ----------
    refusal : its sentence; None if it let every round pass
    """

    refusal: str | None


def watch_rounds(study: Study, seed: int) -> Watched:
    """Train some rounds with the study's unit, mechanism and clipping, all tensors of the model, and a trained head."""
    scene = _scene(study, seed)
    try:
        for number in range(1, ROUNDS + 1):
            _train(scene, number)
    except PrivacyRefusal as refusal:
        return Watched(str(refusal))
    return Watched(None)


def released_fault(study: Study, seed: int) -> str | None:
    """Train the same rounds, and say what their releases alone contradict (`releases.find_fault`); None if nothing."""
    scene = _scene(study, seed)
    sums: list[np.ndarray] = []
    for number in range(1, ROUNDS + 1):
        weights = [_flat(scene)]
        _train(scene, number, lambda: weights.append(_flat(scene)))  # noqa: B023  # called before the next round
        sums.append(
            released_sums(np.array(weights), scene.study.step_size, RATE * len(scene.patients), scene.terms.clip_norm)
        )
    sizes = {name: one.numel() for name, one in scene.model.named_parameters() if one.requires_grad}
    return find_fault(
        np.concatenate(sums),
        sizes,
        scene.terms.mechanism,
        NOISE / math.sqrt(scene.study.noise_shares),
        len(scene.patients),
    )


def watched_terms(study: Study) -> PrivacyTerms:
    """Return privacy terms of the study's kind with the scene's numbers."""
    privacy = study.privacy
    return PrivacyTerms(
        unit=privacy.unit,
        mechanism=privacy.mechanism,
        noise=privacy.noise,
        contribution=privacy.contribution,
        local_steps=LOCAL_STEPS if privacy.contribution == "delta" else None,
        clip_norm=0.5,
        noise_multiplier=NOISE,
        sampling_rate=RATE,
        steps_per_round=1 if _is_one_sum(study) else STEPS,
        rows_per_unit=1 if privacy.unit == "example" else DELTA_ROWS if _is_one_sum(study) else _ROWS,
        examples_per_patient=1 if privacy.unit == "example" else None,
        delta=1e-5,
        max_epsilon=None,
    )


@dataclass(frozen=True)
class _Scene:
    study: Study
    terms: PrivacyTerms
    model: VariantCaller
    patients: dict[str, Examples]
    secret: bytes


def _train(scene: _Scene, number: int, on_step: Callable[[], object] = lambda: None) -> None:
    # Looked up at the call, so that a planted fault is met.
    dp_sgd.train_privately(scene.model, scene.study, _SITE, number, scene.patients, scene.secret, on_step=on_step)


def _flat(scene: _Scene) -> np.ndarray:
    return np.concatenate(
        [one.detach().double().flatten().numpy() for one in scene.model.parameters() if one.requires_grad]
    )


def _scene(study: Study, seed: int) -> _Scene:
    generator = np.random.Generator(np.random.PCG64([seed, 1000]))
    terms, count = watched_terms(study), DELTA_PATIENTS if _is_one_sum(study) else PATIENTS
    rows = terms.rows_per_unit
    patients = {f"patient-{index:02d}": make_canary(generator, rows) for index in range(count)}
    training = TrainingTerms(learning_rate=_LOCAL_RATE) if terms.contribution == "delta" else study.training
    changes = {
        "privacy": terms,
        "model": ModelTerms(trainable="chemistry_and_head" if study.model.trains_chemistry else "all"),
        "rounds": ROUNDS,
        "training": training,
    }
    others = {f"other-{number}": count for number in range(1, study.protection.minimum_sites or 1)}
    audited = with_sites(study.model_copy(update=changes), {_SITE: count, **others})
    model = build_model(audited.model)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(0, 0.3, tuple(parameter.shape))))
    return _Scene(audited, terms, model, patients, generator.bytes(32))


def _is_one_sum(study: Study) -> bool:
    return study.privacy.contribution == "delta" or study.sends_sums
