import numpy as np
import pytest

from fedcall.privacy.mechanism import update_noise
from fedcall.privacy.mechanism.update_noise import norm_bounds, update_noise_std
from fedcall.privacy.terms import PrivacyTerms

PARAMETERS = 4000


def honest_updates(terms, learning_rate, decay, units, gradient, repeats=40, seed=7):
    """Simulate local training as the contract words it; `gradient(weights, drawn)` is a step's clipped sum."""
    random = np.random.default_rng(seed)
    for _ in range(repeats):
        weights = np.zeros(PARAMETERS)
        average = weights.copy()
        for _ in range(terms.steps_per_round):
            drawn = random.binomial(units, terms.sampling_rate)
            draw = random.normal if terms.mechanism == "gaussian" else random.laplace
            noise = draw(scale=terms.noise_multiplier * terms.clip_norm, size=PARAMETERS)
            noisy = gradient(weights, drawn * terms.clip_norm) + noise
            weights = weights - learning_rate * noisy / (terms.sampling_rate * units)
            average = decay * average + (1 - decay) * weights
        yield average if decay else weights


def no_signal(weights, longest):
    return np.zeros_like(weights)


def undo_the_noise(weights, longest):
    """The signal that shortens an update most: it pulls straight back to the start."""
    norm = np.linalg.norm(weights)
    return longest * weights / norm if norm else weights


def always_the_same_way(weights, longest):
    return np.full_like(weights, longest / np.sqrt(len(weights)))


SETTINGS = [
    (PrivacyTerms(), 0.0),
    (PrivacyTerms(), 0.9),
    (PrivacyTerms(mechanism="laplace"), 0.5),
    (PrivacyTerms(noise_multiplier=0.3, steps_per_round=4, clip_norm=0.2), 0.0),
    (PrivacyTerms(noise_multiplier=4.0, sampling_rate=1.0, steps_per_round=1), 0.0),
]


@pytest.mark.parametrize(("terms", "decay"), SETTINGS)
def test_update_noise_std__is_what_pure_noise_shows(terms, decay):
    updates = np.array(list(honest_updates(terms, 0.1, decay, 12, no_signal)))
    assert updates.std() == pytest.approx(update_noise_std(terms, 0.1, decay, 12), rel=0.01)


@pytest.mark.parametrize("gradient", [no_signal, undo_the_noise, always_the_same_way])
@pytest.mark.parametrize(("terms", "decay"), SETTINGS)
def test_norm_bounds__hold_for_honest_updates_whatever_the_signal(terms, decay, gradient):
    bounds = norm_bounds(terms, 0.1, decay, 12, PARAMETERS)
    norms = [np.linalg.norm(update) for update in honest_updates(terms, 0.1, decay, 12, gradient)]
    assert bounds.floor <= min(norms)
    assert max(norms) <= bounds.ceiling


def test_norm_bounds__the_floor_catches_missing_noise():
    terms = PrivacyTerms()
    bounds = norm_bounds(terms, 0.1, 0.9, 12, 25_000)
    expected = update_noise_std(terms, 0.1, 0.9, 12) * np.sqrt(25_000)
    assert bounds.floor > 0.8 * expected  # an update with a third of the variance is refused
    no_noise = terms.model_copy(update={"noise_multiplier": 0.0})
    assert norm_bounds(no_noise, 0.1, 0.9, 12, 25_000).ceiling < bounds.floor


def test_norm_bounds__one_step_is_known_to_a_few_percent():
    """Admission: the norm of an update that carries the claimed noise is known to a fraction of a percent."""
    terms = PrivacyTerms(noise_multiplier=4.0, sampling_rate=1.0, steps_per_round=1)
    bounds = norm_bounds(terms, 0.1, 0.0, 14, 1_000_000)
    expected = update_noise_std(terms, 0.1, 0.0, 14) * 1000
    assert 0.99 * expected < bounds.floor < expected < bounds.ceiling < 1.01 * expected


def test_norm_bounds__without_noise_there_is_no_floor():
    bounds = norm_bounds(PrivacyTerms(noise_multiplier=0.0, max_epsilon=None), 0.1, 0.0, 12, 100)
    assert bounds.floor == 0
    assert bounds.ceiling > 0


def test_update_noise_std__refuses_an_average_that_never_moves():
    with pytest.raises(ValueError, match="iterate averaging"):
        update_noise_std(PrivacyTerms(), 0.1, 1.0, 12)


def test_norm_bounds__leave_room_for_rounding_on_both_sides(monkeypatch):
    wide = norm_bounds(PrivacyTerms(), 0.1, 0.0, 12, PARAMETERS)
    monkeypatch.setattr(update_noise, "ROUNDING", 0.0)
    exact = norm_bounds(PrivacyTerms(), 0.1, 0.0, 12, PARAMETERS)
    assert 0 < wide.floor < exact.floor < exact.ceiling < wide.ceiling
