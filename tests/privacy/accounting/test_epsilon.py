import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcall.privacy.accounting.epsilon import Epsilon, compose, group_epsilon, noise_multiplier_for, study_epsilon
from fedcall.privacy.events import Event
from fedcall.privacy.terms import PrivacyTerms


def event(**changes):
    facts = {"unit": "patient", "mechanism": "gaussian", "noise_multiplier": 1.0, "sampling_rate": 0.05, "steps": 500}
    return Event(**(facts | changes))


def test_compose__agrees_with_published_accountants():
    """facts.md, DP training: q = .05, σ = 1, T = 500, δ = 1e-5 — Opacus RDP 8.297, PRV 7.534, PLD 7.524."""
    epsilon = compose([(event(), 1)], 1e-5)
    assert epsilon.rdp == pytest.approx(8.30, abs=0.01)
    assert epsilon.pld == pytest.approx(7.524, abs=0.002)


def test_compose__rdp_agrees_with_opacus():
    analysis = pytest.importorskip("opacus.accountants.analysis.rdp")
    for multiplier, rate, steps in [(1.2, 0.25, 40), (4.0, 1.0, 60), (0.8, 0.01, 1000)]:
        orders = [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
        curve = analysis.compute_rdp(q=rate, noise_multiplier=multiplier, steps=steps, orders=orders)
        theirs, _ = analysis.get_privacy_spent(orders=orders, rdp=curve, delta=1e-3)
        ours = compose([(event(noise_multiplier=multiplier, sampling_rate=rate, steps=steps), 1)], 1e-3).rdp
        assert ours == pytest.approx(theirs, rel=0.02)


def test_compose__unsampled_gaussian_is_the_exact_formula():
    """Balle and Wang 2018, theorem 8."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    mu = math.sqrt(60) / 4
    exact = brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - 1e-2, 0, 50)
    found = compose([(event(noise_multiplier=4.0, sampling_rate=1.0, steps=60), 1)], 1e-2)
    assert exact <= found.pld <= exact + 0.01
    assert found.rdp > exact


def test_compose__one_laplace_release_costs_one_over_its_scale():
    epsilon = compose([(event(mechanism="laplace", noise_multiplier=2.0, sampling_rate=1.0, steps=1), 1)], 1e-9)
    assert 0.5 - 1e-6 <= epsilon.pld < 0.502
    assert 0.5 - 1e-6 <= epsilon.rdp < 0.51


def test_compose__sampled_laplace_bounds_the_true_hockey_stick():
    """One sampled step at q: δ(ε) computed by brute force from the densities must lie below both bounds."""
    scale, rate, delta = 0.7, 0.3, 1e-3
    x = np.linspace(-40, 41, 2_000_001)
    base, moved = (np.exp(-np.abs(x - centre) / scale) / (2 * scale) for centre in (0, 1))
    mixed = (1 - rate) * base + rate * moved
    step = x[1] - x[0]

    def true_delta(epsilon):
        gap = math.exp(epsilon)
        return max(np.clip(mixed - gap * base, 0, None).sum(), np.clip(base - gap * mixed, 0, None).sum()) * step

    epsilon = compose([(event(mechanism="laplace", noise_multiplier=scale, sampling_rate=rate, steps=1), 1)], delta)
    assert true_delta(epsilon.pld) <= delta * 1.001
    assert true_delta(epsilon.rdp) <= delta * 1.001
    assert true_delta(epsilon.pld - 0.01) > delta


def test_compose__laplace_on_several_coordinates_is_no_worse_than_on_one():
    """The one-dimensional pair dominates: the same L1 distance spread over two coordinates reveals less."""
    whole = event(mechanism="laplace", noise_multiplier=1.0, sampling_rate=1.0, steps=1)
    halves = event(mechanism="laplace", noise_multiplier=2.0, sampling_rate=1.0, steps=2)
    for delta in (1e-6, 1e-3, 1e-2, 0.1, 0.3):
        assert compose([(halves, 1)], delta).pld <= compose([(whole, 1)], delta).pld + 1e-3


def test_compose__nothing_costs_nothing_and_no_noise_costs_everything():
    assert compose([], 1e-5).pld == 0
    assert compose([(event(), 0)], 1e-5).rdp == 0
    silent = compose([(event(noise_multiplier=0.0), 1), (event(), 1)], 1e-5)
    assert math.isinf(silent.pld)
    assert math.isinf(silent.rdp)
    assert not silent.is_finite
    assert silent.exceeds(1e9)
    assert not silent.exceeds(None)


def test_compose__rounds_are_what_one_long_round_is():
    assert compose([(event(steps=5), 100)], 1e-5) == compose([(event(), 1)], 1e-5)


def test_compose__an_example_level_epsilon_is_never_a_patients():
    """Invariant 9."""
    history = [(event(unit="example"), 1)]
    assert compose(history, 1e-5).pld == pytest.approx(7.524, abs=0.002)
    assert math.isinf(compose(history, 1e-5, unit="patient").pld)
    with pytest.raises(ValueError, match="no common epsilon"):
        compose([*history, (event(), 1)], 1e-5)


def test_compose__a_patient_level_release_is_a_substitution_for_an_example():
    """facts.md: replace-one adjacency 12.14 for the plan that costs 7.524 under add/remove."""
    epsilon = compose([(event(), 1)], 1e-5, unit="example")
    assert epsilon.pld == pytest.approx(12.15, abs=0.05)
    assert epsilon.rdp >= epsilon.pld


@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_compose__a_substitution_moves_a_sum_by_two_clip_norms(mechanism):
    """As much as adding one unit under half the noise."""
    whole = event(mechanism=mechanism, noise_multiplier=6.0, sampling_rate=1.0, steps=4)
    half = whole.model_copy(update={"noise_multiplier": 3.0})
    substituted, added = compose([(whole, 1)], 1e-3, unit="example"), compose([(half, 1)], 1e-3)
    assert substituted.pld == pytest.approx(added.pld, rel=0.01)
    assert substituted.rdp == pytest.approx(added.rdp, rel=0.01)


@settings(max_examples=15, deadline=None)
@given(
    multiplier=st.sampled_from([0.7, 1.2, 4.0]),
    rate=st.sampled_from([0.05, 0.25, 1.0]),
    steps=st.integers(1, 60),
    mechanism=st.sampled_from(["gaussian", "laplace"]),
    delta=st.sampled_from([1e-6, 1e-3]),
)
def test_compose__more_exposure_never_costs_less(multiplier, rate, steps, mechanism, delta):
    def cost(**changes):
        facts = {"mechanism": mechanism, "noise_multiplier": multiplier, "sampling_rate": rate, "steps": steps}
        return compose([(event(**(facts | changes)), 1)], delta)

    base = cost()
    assert 0 <= base.pld <= base.rdp * 1.01 + 1e-3
    # The loss grid follows the size of epsilon, hence the tolerance of a thousandth.
    for more in (cost(steps=2 * steps), cost(noise_multiplier=multiplier / 1.3), cost(sampling_rate=min(1, 2 * rate))):
        assert more.pld >= base.pld * 0.999 - 1e-3
        assert more.rdp >= base.rdp * 0.999 - 1e-3


def test_exceeds__what_cannot_be_computed_is_not_within_a_cap():
    assert Epsilon(math.nan, math.nan).exceeds(8.0)
    assert Epsilon(math.inf, math.inf).exceeds(8.0)
    assert not Epsilon(8.0, 9.0).exceeds(8.0)
    assert not Epsilon(math.inf, math.inf).exceeds(None)


def test_compose__absurd_plans_still_get_a_finite_bound():
    epsilon = compose([(event(noise_multiplier=0.05, sampling_rate=0.5, steps=1000), 1)], 1e-5)
    assert 1e3 < epsilon.pld <= epsilon.rdp < math.inf


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-3, math.nan])
def test_compose__refuses_a_delta_out_of_range(delta):
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\)"):
        compose([(event(), 1)], delta)


def test_study_epsilon__composes_the_rounds_of_the_terms():
    terms = PrivacyTerms(noise_multiplier=1.0, sampling_rate=0.05, steps_per_round=50, delta=1e-5)
    assert study_epsilon(terms, 10).pld == pytest.approx(7.524, abs=0.002)


def test_group_epsilon__a_family_is_covered_by_more():
    plan = [(event(noise_multiplier=3.0, sampling_rate=0.25, steps=10), 2)]
    single, family = compose(plan, 1e-3), group_epsilon(plan, 1e-3, 3)
    assert group_epsilon(plan, 1e-3, 1) == single
    assert single.pld < family.pld <= family.rdp
    # Three patients at once are no worse than an unsampled sum moved by three clip norms.
    certain = compose([(event(noise_multiplier=1.0, sampling_rate=1.0, steps=20), 1)], 1e-3)
    assert family.pld < certain.pld


def test_group_epsilon__unsampled_gaussian_group_is_a_larger_sensitivity():
    plan = [(event(noise_multiplier=8.0, sampling_rate=1.0, steps=10), 1)]
    scaled = [(event(noise_multiplier=4.0, sampling_rate=1.0, steps=10), 1)]
    assert group_epsilon(plan, 1e-3, 2).pld == pytest.approx(compose(scaled, 1e-3).pld, rel=0.02)


def test_group_epsilon__laplace_uses_the_generic_conversion():
    plan = [(event(mechanism="laplace", noise_multiplier=20.0, sampling_rate=0.5, steps=5), 1)]
    assert compose(plan, 1e-3).pld < group_epsilon(plan, 1e-3, 2).pld < math.inf


def test_noise_multiplier_for__is_the_least_that_keeps_the_target():
    terms = PrivacyTerms(sampling_rate=0.2, steps_per_round=5)
    needed = noise_multiplier_for(terms, 3, 2.0)
    cost = study_epsilon(terms.model_copy(update={"noise_multiplier": needed}), 3).pld
    less = study_epsilon(terms.model_copy(update={"noise_multiplier": needed * 0.99}), 3).pld
    assert cost <= 2.0 < less
    with pytest.raises(ValueError, match="epsilon must be positive"):
        noise_multiplier_for(terms, 3, 0.0)


TABLE = [  # noise multiplier, sampling rate, steps, delta: tutorials, papers and the plans of this project
    (1.1, 256 / 60_000, 14_000, 1e-5),
    (0.7, 0.01, 1_000, 1e-5),
    (1.0, 0.05, 500, 1e-5),
    (1.2, 0.25, 40, 1e-3),
    (4.2, 0.5, 60, 1e-3),
    (4.0, 1.0, 60, 1e-2),
    (8.0, 1.0, 60, 1e-2),
]


@pytest.mark.parametrize(("multiplier", "rate", "steps", "delta"), TABLE)
def test_compose__agrees_with_dp_accounting_and_opacus_on_a_table(multiplier, rate, steps, delta):
    """Their accountants, called as their documentation says, against ours; none of our code in between."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant
    from opacus.accountants import RDPAccountant as OpacusRdp

    ours = compose([(event(noise_multiplier=multiplier, sampling_rate=rate, steps=steps), 1)], delta)
    theirs = PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier))
    pld = PLDAccountant(value_discretization_interval=1e-3).compose(theirs, steps).get_epsilon(delta)
    rdp = RdpAccountant().compose(theirs, steps).get_epsilon(delta)
    opacus = OpacusRdp()
    opacus.history = [(multiplier, rate, steps)]
    assert ours.pld == pytest.approx(pld, rel=5e-3, abs=2e-3)
    assert ours.rdp == pytest.approx(rdp, rel=0.02)
    assert ours.rdp == pytest.approx(opacus.get_epsilon(delta), rel=0.03)


def exact_lower_bound(multiplier, rate, steps, delta):
    """An epsilon that no accountant may go below, exactly: δ of "is the mean of all sums above t?" for every t.

    A test of the sum of all noisy sums cannot tell more than the sums themselves. Against N(0, sσ²) it is a mixture
    over how often the unit was drawn, so its best threshold gives δ(ε) ≥ P(A) − e^ε Q(A) in closed form.
    """
    from scipy.stats import binom, norm

    drawn = np.arange(steps + 1)
    chances, spread = binom.pmf(drawn, steps, rate), multiplier * math.sqrt(steps)
    thresholds = np.linspace(-2 * spread, steps + 6 * spread, 1500)
    present = (chances[:, None] * norm.sf((thresholds - drawn[:, None]) / spread)).sum(0)
    absent = norm.sf(thresholds / spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.log(np.clip(present - delta, 0, None) / absent)
    return max(0.0, float(bounds[absent > 1e-12].max(initial=0.0)))


@settings(max_examples=25, deadline=None)
@given(multiplier=st.floats(0.6, 8.0), rate=st.floats(0.02, 1.0), steps=st.integers(1, 80), delta=st.floats(1e-6, 1e-2))
def test_compose__is_never_below_a_lower_bound_on_random_plans(multiplier, rate, steps, delta):
    found = compose([(event(noise_multiplier=multiplier, sampling_rate=rate, steps=steps), 1)], delta)
    bound = exact_lower_bound(multiplier, rate, steps, delta)
    assert bound <= found.pld + 1e-6
    assert bound <= found.rdp + 1e-6


def test_exact_lower_bound__is_no_empty_threat():
    """Without sampling the sum of sums is all there is, so the bound is tight: half the cost would be noticed."""
    assert (
        exact_lower_bound(4.0, 1.0, 60, 1e-2)
        > 0.95 * compose([(event(noise_multiplier=4.0, sampling_rate=1.0, steps=60), 1)], 1e-2).pld
    )
