"""One noisy number about people: who is in it moves it by at most the bound, and its noise is as accounted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.mechanism.bounded_sum import grid_total, noise_multiplier, noisy_total, sum_event
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.noise import StepContext

SECRET = bytes(range(32))
ANYTHING = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(ANYTHING, max_size=6), ANYTHING, st.floats(0.001, 1))
def test_grid_total__one_person_moves_it_by_at_most_the_bound(others: list[float], value: float, bound: float) -> None:
    moved = grid_total([*others, value], bound) - grid_total(others, bound)
    assert isinstance(moved, int)
    assert abs(moved) <= GRID


def test_grid_total__is_the_sum_and_does_not_depend_on_the_order() -> None:
    values = [0.01, -0.02, 0.05, 0.3, -7.0, math.nan]
    total = grid_total(values, 0.05)
    assert total == grid_total(reversed(values), 0.05)
    assert total / GRID * 0.05 == pytest.approx(0.01 - 0.02 + 0.05 + 0.05 - 0.05, abs=1e-6)


@pytest.mark.parametrize("mechanism", ["laplace", "gaussian"])
@pytest.mark.parametrize("epsilon", [0.1, 0.3, 1.0])
def test_sum_event__costs_what_was_asked_for(mechanism: str, epsilon: float) -> None:
    spent = compose([(sum_event(mechanism, epsilon, 1e-4), 1)], 1e-4)
    assert 0.97 * epsilon < spent.pld <= epsilon * 1.001
    assert math.isclose(noise_multiplier("laplace", epsilon, 0), 1 / epsilon, rel_tol=1e-5)


@pytest.mark.parametrize(("mechanism", "std"), [("laplace", math.sqrt(2)), ("gaussian", 1.0)])
def test_noisy_total__noise_has_the_accounted_scale(mechanism: str, std: float) -> None:
    scale = noise_multiplier(mechanism, 0.3, 1e-3)
    noise = np.array([noisy_total(SECRET, context(number), 1000, mechanism, scale) - 1000 for number in range(1, 2001)])
    assert np.std(noise) / GRID == pytest.approx(scale * std, rel=0.1)
    assert abs(np.mean(noise)) < 4 * scale * std * GRID / math.sqrt(len(noise))


def test_noisy_total__same_inputs_same_number_and_any_other_sum_other_noise() -> None:
    first = noisy_total(SECRET, context(5), 1000, "laplace", 3.0)
    assert first == noisy_total(SECRET, context(5), 1000, "laplace", 3.0)
    assert noisy_total(SECRET, context(5), 1001, "laplace", 3.0) - 1001 != first - 1000


@pytest.mark.parametrize(("mechanism", "epsilon", "delta"), [("laplace", 0, 0.1), ("gaussian", 1, 0)])
def test_noise_multiplier__says_what_it_needs(mechanism: str, epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be positive and delta"):
        noise_multiplier(mechanism, epsilon, delta)


def context(number: int) -> StepContext:
    return StepContext("ab" * 32, "north", number, 1, "cd" * 32)
