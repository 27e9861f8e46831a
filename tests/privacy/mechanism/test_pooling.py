"""Shares of the noise: their sum is what is accounted, and the lemma behind it holds where it can be computed."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, norm

from fedcall.privacy.accounting.losses import accounted_multiplier
from fedcall.privacy.accounting.pooling import log10_pooling_cost, pooled_epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.mechanism.noise import StepContext, noisy_sum
from fedcall.privacy.mechanism.pooling import LEAST_NOISE, SUM_GRID, check_capacity, share_multiplier

EVENT = Event(unit="patient", mechanism="gaussian", noise_multiplier=3.14, sampling_rate=0.5, steps=1, shares=10)


def discrete_gaussian(variance: float, reach: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-reach, reach + 1, dtype=float) ** 2) / (2 * variance))
    return weights / weights.sum()


@pytest.mark.parametrize("shares", [2, 3, 5, 10])
@pytest.mark.parametrize("sigma", [0.75, 1.0, 1.3])
def test_sum_of_shares__is_one_discrete_gaussian_within_the_lemma(shares, sigma):
    """Kairouz, Liu and Steinke 2021, theorem 1, by exact convolution at scales so small that the distance shows."""
    reach = math.ceil(12 * sigma * math.sqrt(shares))
    total = one = discrete_gaussian(sigma**2, reach)
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    whole = discrete_gaussian(shares * sigma**2, (len(total) - 1) // 2)
    seen = whole > 1e-9  # where float64 says anything about a ratio
    distance = np.abs(np.log(total[seen] / whole[seen])).max()
    tau = 10 * sum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, shares))
    assert distance <= tau + 1e-12
    if sigma == 0.75:
        assert distance > 1e-6  # there is something to bound


def test_log10_pooling_cost__is_the_lemmas_bound():
    sigma, shares = 1.3, 5
    small = sigma * math.sqrt(shares) / SUM_GRID  # a multiplier whose shares have about this many grid points
    points = share_multiplier(small, shares) * SUM_GRID
    exact = 10 * sum(math.exp(-2 * math.pi**2 * points**2 * k / (k + 1)) for k in range(1, shares))
    found = 10 ** log10_pooling_cost(small, shares, sums=1, numbers=1)
    assert 2 * exact <= found <= 2 * exact * shares
    assert log10_pooling_cost(LEAST_NOISE, 60_000, sums=100_000) < -900
    assert log10_pooling_cost(1.0, 1, sums=5) is None


def test_share_multiplier__the_sum_costs_what_real_noise_of_the_agreed_scale_does():
    for noise, shares in ((0.5, 1), (3.14, 10), (10.5, 50)):
        total = share_multiplier(noise, shares) * math.sqrt(shares)
        assert accounted_multiplier("gaussian", total, SUM_GRID) == pytest.approx(noise, rel=1e-12)
        assert total == pytest.approx(noise, rel=1e-6)
    assert share_multiplier(0.0, 5) == 0.0


def test_noisy_sum__shares_of_ten_sites_add_up_to_the_agreed_noise_on_the_grid():
    total, scale, count = np.zeros(20_000, np.int64), share_multiplier(3.14, 10), 10
    shares = [
        noisy_sum(
            bytes(31) + bytes([site]),
            StepContext("s", f"site{site}", 1, 0, "i"),
            total,
            "gaussian",
            scale,
            1.0,
            SUM_GRID,
        )
        for site in range(count)
    ]
    energy = float((np.sum(shares, axis=0, dtype=float) ** 2).sum()) / (3.14 * SUM_GRID) ** 2
    assert chi2(len(total)).ppf(1e-9) < energy < chi2(len(total)).isf(1e-9)
    alone = float((shares[0].astype(float) ** 2).sum()) / (3.14 * SUM_GRID) ** 2
    assert alone == pytest.approx(len(total) / 10, rel=0.1)


@pytest.mark.parametrize("tolerated", [0, 1])
def test_pooled_epsilon__says_what_holds_against_whom(tolerated):
    cost = pooled_epsilon(EVENT, 5, 1e-3, tolerated)
    assert cost.kept.pld == pytest.approx(1.0, abs=0.02)  # protection/README.md: epsilon 1 in five sums
    if tolerated:  # who tells its noise is one of the tolerated
        assert cost.to_a_site == cost.kept
    else:
        assert cost.kept.pld < cost.to_a_site.pld < 1.2 * cost.kept.pld
    assert cost.if_broken.pld > 4 * cost.kept.pld


def test_check_capacity__has_room_for_every_patient_and_the_noise():
    check_capacity(50 * 40, 10.0, 50 / 3)
    check_capacity(50 * 40, 0.0, 1.0)
    with pytest.raises(ValueError, match="holds 32768"):
        check_capacity(32_000, 100.0, 1.0)
    with pytest.raises(ValueError, match="too small for the grid"):
        check_capacity(100, 0.01, 1.0)
    assert norm.sf(14.0) < 1e-42
