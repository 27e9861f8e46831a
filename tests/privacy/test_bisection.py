"""Bisection returns the side on which the condition was seen to hold, so that a rounded number stays safe."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcall.privacy.accounting.epsilon import noise_multiplier_for, study_epsilon
from fedcall.privacy.accounting.solving import rounds_for, sampling_rate_for
from fedcall.privacy.bisection import greatest, least, most
from fedcall.privacy.mechanism.bounded_sum import noise_multiplier
from fedcall.privacy.terms import PrivacyTerms


@given(edge=st.floats(0.011, 9.99), precision=st.floats(1e-9, 0.5), relative=st.booleans())
def test_least__is_at_the_edge_or_above_it_and_greatest_at_it_or_below(edge, precision, relative):
    up = least(lambda x: x >= edge, 0.01, 10.0, precision, relative)
    down = greatest(lambda x: x <= edge, 0.01, 10.0, precision, relative)
    assert down <= edge <= up
    if relative:
        assert up <= edge * (1 + precision) * (1 + 1e-12)
        assert down >= edge / (1 + precision) * (1 - 1e-12)
    else:
        assert up - edge <= precision
        assert edge - down <= precision


def test_least__returns_nothing_that_was_not_tried():
    tried = []
    found = least(lambda x: tried.append(x) or x > 1 / 3, 0.0, 1.0, 1e-3)
    assert found in tried
    assert found > 1 / 3
    tried.clear()
    found = greatest(lambda x: tried.append(x) or x < 1 / 3, 0.0, 1.0, 1e-3)
    assert found in tried
    assert found < 1 / 3


def test_least__ends_at_neighbouring_numbers_and_says_where_nothing_holds():
    assert least(lambda x: x >= 1 / 3, 0.0, 1.0, 0.0) == 1 / 3
    assert greatest(lambda x: x <= 1 / 3, 0.0, 1.0, 0.0) == 1 / 3
    with pytest.raises(ValueError, match="does not hold at 1"):
        least(lambda x: False, 0.0, 1.0, 1e-3)
    with pytest.raises(ValueError, match="does not hold at 0"):
        greatest(lambda x: False, 0.0, 1.0, 1e-3)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 100])
def test_most__is_the_last_that_fits(limit):
    assert most(lambda rounds: rounds <= limit, 50) == min(limit, 50)
    assert most(lambda rounds: rounds <= limit, 0) == 0


def test_solved_terms__are_rounded_to_the_private_side():
    terms = PrivacyTerms(noise_multiplier=2.0, sampling_rate=0.2, steps_per_round=5)
    for target in (0.7, 1.3, 2.9):
        noise, rate = noise_multiplier_for(terms, 3, target), sampling_rate_for(terms, 3, target)
        assert study_epsilon(terms.model_copy(update={"noise_multiplier": noise}), 3).pld <= target
        assert study_epsilon(terms.model_copy(update={"sampling_rate": rate}), 3).pld <= target
        assert study_epsilon(terms, rounds_for(terms, target)).pld <= target


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-3), (1.0, 1e-5), (3.0, 1e-2)])
def test_noise_of_a_sum__is_rounded_up(epsilon, delta):
    sigma = noise_multiplier("gaussian", epsilon, delta)

    def condition(scale):  # Balle and Wang 2018, theorem 8
        def cdf(x):
            return math.erfc(-x / math.sqrt(2)) / 2

        return cdf(0.5 / scale - epsilon * scale) - math.exp(epsilon) * cdf(-0.5 / scale - epsilon * scale)

    assert condition(sigma) <= delta < condition(sigma * (1 - 2e-5))
