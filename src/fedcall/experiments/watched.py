"""The audit's scene of several rounds and steps: made-up patients, a trained head, all tensors, under the oracle.

Other scenes take one step of one round with a fresh head, whose zeros let no gradient pass to the layers before it.
Here every tensor gets a gradient, and `training.oracle` says of each step whether it was made as agreed.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fedcall.errors import PrivacyRefusal
from fedcall.experiments.canaries import make_canary
from fedcall.experiments.federation import with_sites
from fedcall.model.caller import build_model
from fedcall.privacy.mechanism.noise_checks import FALSE_ALARM
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Study
from fedcall.training import dp_sgd

ROUNDS, STEPS, PATIENTS, RATE, NOISE = 3, 8, 12, 0.5, 1.4
"""So that twice the sampling rate, or one draw for all steps, cannot be chance in a single round."""

_ROWS = 4
_SITE = "audited"


@dataclass(frozen=True)
class Watched:
    """What the oracle said of a scene.

    Attributes
    ----------
    refusal : its sentence; None if it let every round pass
    terms : of the scene
    rounds, steps : how many rounds, of how many steps each, were asked for
    false_alarm : chance that sound training would have been refused
    """

    refusal: str | None
    terms: PrivacyTerms
    rounds: int = ROUNDS
    steps: int = STEPS
    false_alarm: float = ROUNDS * FALSE_ALARM


def watch_rounds(study: Study, seed: int) -> Watched:
    """Train some rounds with the study's unit, mechanism and clipping, all tensors of the model, and a trained head."""
    generator = np.random.Generator(np.random.PCG64([seed, 1000]))
    privacy = study.privacy
    terms = PrivacyTerms(
        unit=privacy.unit,
        mechanism=privacy.mechanism,
        clip_norm=0.5,
        noise_multiplier=NOISE,
        sampling_rate=RATE,
        steps_per_round=STEPS,
        rows_per_unit=_ROWS if privacy.unit == "patient" else 1,
        examples_per_patient=1 if privacy.unit == "example" else None,
        delta=1e-5,
        max_epsilon=None,
    )
    rows = terms.rows_per_unit
    patients = {f"patient-{index:02d}": make_canary(generator, rows) for index in range(PATIENTS)}
    whole = study.model_copy(update={"privacy": terms, "model": ModelTerms(trainable="all"), "rounds": ROUNDS})
    audited = with_sites(whole, {_SITE: PATIENTS})
    model = build_model(audited.model)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(0, 0.3, tuple(parameter.shape))))
    secret = generator.bytes(32)
    try:
        for number in range(1, ROUNDS + 1):
            dp_sgd.train_privately(model, audited, _SITE, number, patients, secret)
    except PrivacyRefusal as refusal:
        return Watched(str(refusal), terms)
    return Watched(None, terms)
