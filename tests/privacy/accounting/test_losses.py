"""Losses that are passed with a given chance (point 5 of the promise): the loss's own quantile, not epsilon."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedcall.privacy.accounting.epsilon import compose, largest_loss
from fedcall.privacy.accounting.filter import cumulative_epsilon, cumulative_loss
from fedcall.privacy.accounting.membership import membership
from fedcall.privacy.events import Event

DEMO = Event(unit="patient", mechanism="gaussian", noise_multiplier=4.2, sampling_rate=0.5, steps=20)


@pytest.mark.parametrize(("multiplier", "steps", "chance"), [(4.0, 10, 1e-2), (1.0, 1, 1e-5), (8.0, 100, 1e-6)])
def test_largest_loss__of_a_gaussian_is_its_quantile(multiplier, steps, chance):
    event = Event(unit="patient", mechanism="gaussian", noise_multiplier=multiplier, sampling_rate=1.0, steps=steps)
    mu = math.sqrt(steps) / multiplier
    exact = mu**2 / 2 + mu * norm.isf(chance)  # the loss is normal, mean μ²/2 and variance μ²
    found = largest_loss([(event, 1)], chance)
    assert exact <= found <= exact * 1.01 + 2e-3


def test_promise_5__odds_are_those_of_the_losss_own_quantile():
    """For the demo P(loss > ε) is 4.3 thousandths at δ of one thousandth; the quantile is 3.36, so odds are 29."""
    events, delta = [(DEMO, 3)], 1e-3
    epsilon, loss = compose(events, delta).pld, largest_loss(events, delta)
    random, rate, sigma = np.random.default_rng(5), DEMO.sampling_rate, DEMO.noise_multiplier
    with_unit, without = np.zeros(400_000), np.zeros(400_000)

    def of(seen):
        return np.log(1 - rate + rate * np.exp((2 * seen - 1) / (2 * sigma**2)))

    for _ in range(60):
        noise = random.normal(0, sigma, len(with_unit))
        with_unit += of(noise + (random.random(len(noise)) < rate))
        without -= of(random.normal(0, sigma, len(noise)))
    assert (with_unit > epsilon).mean() > 3 * delta, "epsilon at delta is passed with more than delta"
    spread = 5 * math.sqrt(delta / len(with_unit))
    assert (with_unit > loss).mean() <= delta + spread
    assert (without > loss).mean() <= delta + spread
    assert (with_unit > loss - 0.05).mean() > delta - spread, "and it is not far too large"
    found = membership(epsilon, delta, loss)
    assert found is not None
    assert 28 < found.odds < 30
    assert found.odds == math.exp(loss)
    assert found.accuracy < found.posterior


def test_largest_loss__is_above_epsilon_and_falls_with_the_chance():
    chances = (1e-2, 1e-3, 1e-5)
    losses = [largest_loss([(DEMO, 3)], chance) for chance in chances]
    assert losses == sorted(losses)
    for chance, loss in zip(chances, losses, strict=True):
        assert loss > compose([(DEMO, 3)], chance).pld


def test_largest_loss__without_a_bound_is_infinite_and_of_nothing_is_zero():
    bare = DEMO.model_copy(update={"noise_multiplier": 0})
    assert largest_loss([(bare, 1)], 1e-3) == math.inf
    assert largest_loss([], 1e-3) == 0.0
    example = DEMO.model_copy(update={"unit": "example"})
    assert largest_loss([(example, 1)], 1e-3, "patient") == math.inf


@pytest.mark.parametrize(("mechanism", "rate"), [("laplace", 1.0), ("laplace", 0.3), ("gaussian", 0.1)])
def test_largest_loss__is_no_larger_than_renyi_allows(mechanism, rate):
    event = Event(unit="patient", mechanism=mechanism, noise_multiplier=5.0, sampling_rate=rate, steps=10)
    pld, filtered = largest_loss([(event, 2)], 1e-3), cumulative_loss([("a", event, 1), ("b", event, 1)], 1e-3)
    assert compose([(event, 2)], 1e-3).pld < pld < filtered


def test_cumulative_loss__over_several_studies_holds_for_a_gaussian():
    event = Event(unit="patient", mechanism="gaussian", noise_multiplier=4.0, sampling_rate=1.0, steps=5)
    charges = [("a" * 64, event, 2), ("b" * 64, event, 2)]
    mu = math.sqrt(20) / 4.0
    exact = mu**2 / 2 + mu * norm.isf(1e-3)
    for cap in (None, 4.0):
        loss = cumulative_loss(charges, 1e-3, cap=cap)
        assert loss > exact
        assert loss > cumulative_epsilon(charges, 1e-3, cap=cap).pld
    assert cumulative_loss(charges[:1], 1e-3) == largest_loss([(event, 2)], 1e-3)
