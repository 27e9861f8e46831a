"""The noise sampler against probabilities computed elsewhere (decimal arithmetic), at every distance from zero."""

from collections import Counter
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from fedcall.privacy.mechanism import discrete_noise
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.discrete_noise import (
    LARGEST_SCALE,
    Target,
    discrete_gaussian,
    exact_trial,
    rounded_laplace,
)
from fedcall.privacy.mechanism.exact_chances import exp_bounds, is_below
from fedcall.privacy.mechanism.noise import Stream

KEY = bytes(range(32))
SAMPLERS = {"gaussian": discrete_gaussian, "laplace": rounded_laplace}
SCALES = [0.3, 0.8, 3.0, 8.7, 20.0, 45.5]
LAST = 2**64 - 1
GAUSSIAN, LAPLACE = [10730893, -15475499, 4335554], [10730893, -17572651, 2238402]


def weight(mechanism, scale, value):
    """Return what P(value) is in proportion to, with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        y, s = Decimal(abs(value)), Decimal(scale)
        if mechanism == "gaussian":
            return (-y * y / (2 * s * s)).exp()
        # P(rint(Laplace(b)) = y), from the distribution function.
        half = 1 / (2 * s)
        return 1 - (-half).exp() if value == 0 else (-y / s).exp() * (half.exp() - (-half).exp()) / 2


def probabilities(mechanism, scale, farthest):
    weights = [float(weight(mechanism, scale, value)) for value in range(-farthest, farthest + 1)]
    return np.array(weights) / sum(weights)


def p_value(observed, expected):
    """Chi-square over cells that expect ten or more; the rest is one cell."""
    large = expected >= 10
    seen, meant = np.append(observed[large], observed[~large].sum()), np.append(expected[large], expected[~large].sum())
    if meant[-1] < 10:
        seen, meant = seen[:-1], meant[:-1]
    statistic = ((seen - meant) ** 2 / meant).sum()
    return stats.chi2.sf(statistic, len(seen) - 1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mechanism", SAMPLERS)
def test_noise__has_the_exact_probabilities(mechanism, scale):
    drawn = SAMPLERS[mechanism](Stream(KEY), scale, 400_000)
    farthest = int(np.abs(drawn).max()) + 1
    observed = np.bincount(drawn + farthest, minlength=2 * farthest + 1)
    assert p_value(observed, probabilities(mechanism, scale, farthest) * len(drawn)) > 1e-3


@pytest.mark.parametrize("mechanism", SAMPLERS)
def test_promise_6__noise_is_exact_in_its_tails(mechanism):
    """Promise, point 6. Every trial begins with a uniform within 2^-64 of one: nine scales and more from zero.

    A uniform of 52 bits has one single value there, and the sum under it would be known for certain.
    """
    scale, stream = 3.0, Stream(KEY)
    target = Target(mechanism, scale)
    found = Counter()
    for _ in range(6000):
        first = iter([LAST])
        value = exact_trial(target, lambda first=first: next(first, None) or int(stream.integers(1)[0]))
        found[abs(value)] += 1
    with localcontext() as context:
        context.prec = 60
        weights = [weight(mechanism, scale, y) for y in range(600)]
        # Zero is proposed like all others, and then (laplace) thinned; minus zero is thrown away.
        weights[0] = weights[1] * (1 / Decimal(scale)).exp() if mechanism == "laplace" else Decimal(1)
        total, start = sum(weights), 1 - Decimal(2) ** -64
        expected, before = {}, Decimal(0)
        for y, one in enumerate(weights):
            after = before + one / total
            expected[y] = float(max(Decimal(0), after - max(before, start)) * Decimal(2) ** 64)
            before = after
    assert min(found) >= 9 * scale
    values = sorted(set(found) | {y for y, share in expected.items() if share > 1e-9})
    observed = np.array([found[y] for y in values])
    assert p_value(observed, np.array([expected[y] for y in values]) * 6000) > 1e-3
    assert len(found) > 3


@pytest.mark.parametrize("mechanism", SAMPLERS)
def test_noise__has_no_holes_in_its_tail_on_the_grid(mechanism):
    """At the scale of a study, values in the far tail are all different: none tells the sum under it."""
    stream, target = Stream(KEY), Target(mechanism, 4.2 * GRID)
    found = []
    for _ in range(1000):
        first = iter([LAST])
        found.append(exact_trial(target, lambda first=first: next(first, None) or int(stream.integers(1)[0])))
    values = [value for value in found if value is not None]
    assert len(set(values)) == len(values) > 400
    assert min(abs(value) for value in values) > 8.5 * 4.2 * GRID
    # The lowest bits are as even there as anywhere.
    assert stats.chisquare(np.bincount(np.array(values) & 7, minlength=8)).pvalue > 1e-3


@pytest.mark.parametrize("scale", [*SCALES, 1.2 * GRID, 1e6 * GRID])
@pytest.mark.parametrize("mechanism", SAMPLERS)
def test_noise__fast_and_exact_arithmetic_agree_word_for_word(mechanism, scale):
    """No decision is left to float64 where the margin is two, and nearly none is taken from it otherwise."""
    target = Target(mechanism, scale)
    exact = discrete_noise._draw(Stream(KEY), target, 2000, margin=2.0)
    np.testing.assert_array_equal(SAMPLERS[mechanism](Stream(KEY), scale, 2000), exact)
    # Half and half: going back and forth between the two loses no word and no value.
    np.testing.assert_array_equal(discrete_noise._draw(Stream(KEY), target, 2000, margin=0.05), exact)


def test_noise__is_the_same_on_every_processor():
    assert discrete_gaussian(Stream(KEY), 1.2 * GRID, 3).tolist() == GAUSSIAN
    assert rounded_laplace(Stream(KEY), 1.2 * GRID, 3).tolist() == LAPLACE


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 2 * LARGEST_SCALE])
def test_noise__refuses_a_scale_it_cannot_draw(scale):
    with pytest.raises(ValueError, match="noise scale"):
        discrete_gaussian(Stream(KEY), scale, 3)


def test_discrete_gaussian__shares_add_up_to_the_noise_of_their_sum():
    """Pooled noise: n shares of variance σ²/n are one discrete Gaussian of σ (Kairouz et al. 2021)."""
    shares = [discrete_gaussian(Stream(bytes([n]) * 32), 3.0, 400_000) for n in range(4)]
    total = np.sum(shares, axis=0)
    farthest = int(np.abs(total).max()) + 1
    observed = np.bincount(total + farthest, minlength=2 * farthest + 1)
    assert p_value(observed, probabilities("gaussian", 6.0, farthest) * len(total)) > 1e-3


@pytest.mark.parametrize("bits", [64, 128, 320])
@pytest.mark.parametrize(
    "x", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(355, 113), Fraction(97), Fraction(1e-9)]
)
def test_exp_bounds__hold_the_exponential(x, bits):
    low, high = exp_bounds(x, bits)
    with localcontext() as context:
        context.prec = 150
        exact = (-Decimal(x.numerator) / Decimal(x.denominator)).exp() * 2**bits
        assert low <= exact <= high
    assert high - low <= 3


def test_is_below__takes_as_many_bits_as_it_needs():
    third = Fraction(1, 3)
    words = [(2**64 - 1) // 3] * 3  # the binary digits of 1/3, as far as they go

    def bounds_of(bits):
        return (2**bits) // 3, (2**bits) // 3 + 1

    for last, below in ((0, True), (LAST, False)):
        more = iter([*words[1:], last])
        assert is_below(words[0], lambda more=more: next(more), bounds_of) is below
        assert next(more, None) is None
    assert is_below(int(third * 2**64) - 1, lambda: pytest.fail("no more bits are needed"), bounds_of)
