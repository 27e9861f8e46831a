"""The oracle in the training path: sound rounds pass, every planted fault is refused before anything is released."""

import numpy as np
import pytest

from fedcall.errors import PrivacyRefusal
from fedcall.experiments.faults import FAULTS, unwatched
from fedcall.experiments.watched import watch_rounds
from fedcall.privacy.mechanism.noise_checks import NoiseChecks, check_agreement, check_draws
from fedcall.study.terms import ModelTerms, Study
from pooled_study import POOLED as POOLED_TERMS
from pooled_study import make_study

STUDY = Study.model_validate({"name": "watched", "rounds": 2, "privacy": {"noise_multiplier": 2.0}})
LAPLACE = Study.model_validate({"name": "watched", "privacy": {"noise_multiplier": 2.0, "mechanism": "laplace"}})
EXAMPLES = Study.model_validate(
    {"name": "watched", "privacy": {"unit": "example", "examples_per_patient": 10, "rows_per_unit": 1}}
)
DELTA = Study.model_validate(
    {"name": "watched", "privacy": {"contribution": "delta", "local_steps": 4, "steps_per_round": 1}}
)
POOLED = make_study(privacy={**POOLED_TERMS, "contribution": "delta", "local_steps": 4})
CHEMISTRY = STUDY.model_copy(update={"model": ModelTerms(trainable="chemistry")})
CHEMISTRY_DELTA = DELTA.model_copy(update={"model": ModelTerms(trainable="chemistry")})
SIZES = {"trunk": 2000, "head": 40}


@pytest.mark.parametrize(
    "study",
    [STUDY, LAPLACE, EXAMPLES, DELTA, POOLED, CHEMISTRY, CHEMISTRY_DELTA],
    ids=["gaussian", "laplace", "example", "delta", "pooled", "chemistry", "chemistry delta"],
)
def test_oracle__lets_sound_rounds_pass(study):
    assert watch_rounds(study, 1).refusal is None


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *(("gradient", name) for name, fault in FAULTS.items() if fault.is_possible(STUDY.privacy)),
        *(("delta", name) for name, fault in FAULTS.items() if fault.is_possible(DELTA.privacy)),
        *(("chemistry", name) for name, fault in FAULTS.items() if fault.is_possible(STUDY.privacy)),
        *(("chemistry delta", name) for name in ("half the noise", "clipping per local step")),
        *(("pooled", name) for name in ("half the noise", "no noise", "noise repeated", "shares for twice the sites")),
    ],
)
def test_every_planted_fault_is_refused_in_the_training_path(kind, fault):
    """Promise, point 4: an independent oracle watches every tensor, step and round, and refuses before a release."""
    study = {
        "gradient": STUDY,
        "delta": DELTA,
        "pooled": POOLED,
        "chemistry": CHEMISTRY,
        "chemistry delta": CHEMISTRY_DELTA,
    }[kind]
    with FAULTS[fault].plant():
        refusal = watch_rounds(study, 1).refusal
        with unwatched():
            assert watch_rounds(study, 1).refusal is None  # nobody else notices: it is the oracle that refuses
    assert refusal is not None
    assert "nothing was released" in refusal


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_noise_checks__pass_sound_noise_of_any_number_of_tensors_and_steps(mechanism):
    generator = np.random.default_rng(1)
    draw = generator.normal if mechanism == "gaussian" else generator.laplace
    checks = NoiseChecks(mechanism, {**SIZES, "bias": 3, "one": 1}, 300)
    for step in range(300):
        checks.check(f"step {step}", draw(size=2044))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda noise: 0.8 * noise, r"noise of 0\.8"),
        (lambda noise: 1.3 * noise, r"noise of 1\.[23]"),
        (lambda noise: np.abs(noise), "not gaussian"),
        (lambda noise: np.concatenate([noise[:2000], np.zeros(40)]), "tensor 'head'"),
        (lambda noise: np.sign(noise), "not gaussian"),
        (lambda noise: np.resize(noise[:500], noise.shape), "share"),
    ],
    ids=["too little", "too much", "one sign", "a bare tensor", "two values", "repeated"],
)
def test_noise_checks__refuse_noise_that_is_not_as_claimed(change, message):
    checks = NoiseChecks("gaussian", SIZES, 10)
    generator = np.random.default_rng(2)
    checks.check("step 1", generator.normal(size=2040))
    with pytest.raises(PrivacyRefusal, match=message):
        checks.check("step 2", change(generator.normal(size=2040)))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_noise_checks__refuse_noise_of_an_earlier_step(share):
    checks = NoiseChecks("gaussian", SIZES, 10)
    generator = np.random.default_rng(3)
    steps = generator.normal(size=(4, 2040))
    for number, noise in enumerate(steps):
        checks.check(f"step {number}", noise)
    mixed = share * steps[1] + np.sqrt(1 - share**2) * generator.normal(size=2040)
    with pytest.raises(PrivacyRefusal, match="earlier step"):
        checks.check("step 5", mixed)


def test_check_draws__refuses_other_rates_and_the_same_draw_again():
    check_draws("round", 50, 100, 0.5)
    check_draws("round", 100, 100, 1.0)
    check_agreement("round", 60, 100, 0.5)
    for drawn, rate in ((100, 0.5), (99, 1.0), (0, 0.5)):
        with pytest.raises(PrivacyRefusal, match="sampling rate"):
            check_draws("round", drawn, 100, rate)
    with pytest.raises(PrivacyRefusal, match="same units"):
        check_agreement("round", 100, 100, 0.5)
