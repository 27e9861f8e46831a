"""The audit's bounds, and its power: sound training stays quiet, every planted fault is caught."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fedcall.experiments.bounds import Curve, Guesses, claimed_curve, contradicts, epsilon_bound, guess
from fedcall.experiments.faults import FAULTS
from fedcall.experiments.one_run import SCENES, audit_scene, scene_terms
from fedcall.federation.study import Study
from fedcall.privacy.accounting import study_epsilon
from fedcall.privacy.terms import PrivacyTerms
from fedcall.training import dp_sgd

STUDY = Study.model_validate({"name": "audited", "model": {"trainable": "head"}})


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_epsilon_bound__holds_for_randomised_response(epsilon):
    generator = np.random.default_rng(1)
    correct = generator.binomial(1000, expit(epsilon), size=200)
    bounds = [epsilon_bound([Guesses(1000, 1000, int(right))], 1e-5, 0.95) for right in correct]
    assert np.mean(np.array(bounds) > epsilon) <= 0.07
    assert np.mean(bounds) > 0.7 * epsilon  # and says something


def test_epsilon_bound__nothing_from_guessing_and_never_beyond_what_can_be_proven():
    assert epsilon_bound([Guesses(1000, 1000, 500)], 1e-5, 0.95) == 0
    assert 5.5 < epsilon_bound([Guesses(1000, 1000, 1000)], 1e-9, 0.95) < 6


def test_curve__of_a_gaussian_is_its_trade_off_function():
    terms = PrivacyTerms(noise_multiplier=1.5, sampling_rate=1.0, steps_per_round=1, delta=1e-5)
    curve, chances = claimed_curve(terms), np.linspace(0.01, 0.99, 25)
    exact = norm.cdf(norm.ppf(chances) - 1 / 1.5)  # Dong et al. 2022, equation 6
    found = np.array([curve.at(chance) for chance in chances])
    assert (found <= exact + 1e-6).all()
    assert found == pytest.approx(exact, abs=0.02)


def test_contradicts__a_gaussian_seldom_that_is_as_private_as_claimed_but_one_with_half_the_noise():
    generator = np.random.default_rng(2)
    curve = claimed_curve(PrivacyTerms(noise_multiplier=1.2, sampling_rate=1.0, steps_per_round=1, delta=1e-5))

    def alarm(noise: float) -> bool:
        members = generator.random(5000) < 0.5
        return contradicts(curve, guess(members + generator.normal(0, noise, 5000), members), 0.95)

    assert sum(alarm(1.2) for _ in range(20)) <= 2
    assert sum(alarm(0.6) for _ in range(20)) >= 18


def test_contradicts__perfect_guesses_of_a_mechanism_that_promises_everything():
    curve = Curve(np.array([0.0]), np.array([0.0]))  # ε = 0: nobody can do better than a coin
    assert contradicts(curve, [Guesses(100, 100, 75)], 0.95)
    assert not contradicts(curve, [Guesses(100, 100, 52)], 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_audit_scene__quiet_on_the_code_as_it_is(scene):
    found = audit_scene(STUDY, scene, 0.99, seed=1)
    assert not found.caught
    assert found.lower_bound < found.claimed
    assert found.claimed == study_epsilon(scene_terms(STUDY.privacy, scene), 1).pld


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_audit_scene__catches_planted_fault(fault):
    with FAULTS[fault].plant():
        assert audit_scene(STUDY, FAULTS[fault].scene, 0.98, seed=1).caught


def test_faults__leave_nothing_behind():
    before = dict(vars(dp_sgd))
    for fault in FAULTS.values():
        with fault.plant():
            assert vars(dp_sgd) != before
        assert vars(dp_sgd) == before
