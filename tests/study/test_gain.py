"""What the sites' noisy totals say: the mean, and an interval that covers it as often as it says."""

import numpy as np
import pytest

from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.gain import estimate_gain, gain_sentence
from fedcall.study.judgement import JudgedSite, judge_event

TERMS = EvaluationTerms(epsilon=0.3)


def judged(totals: list[float], people: int, terms: EvaluationTerms = TERMS) -> list[JudgedSite]:
    return [
        JudgedSite(site=f"site{number}", people=people, total=round(total / terms.clip * GRID))
        for number, total in enumerate(totals)
    ]


def test_estimate_gain__divides_by_the_declared_number() -> None:
    gain = estimate_gain(TERMS, judged([0.2, 0.1], 10))
    assert gain is not None
    assert (gain.people, gain.sites) == (20, 2)
    assert gain.value == pytest.approx(0.3 / 20)
    assert estimate_gain(TERMS, []) is None


@pytest.mark.parametrize("terms", [TERMS, EvaluationTerms(epsilon=1.0, mechanism="gaussian", delta=1e-3)])
@pytest.mark.parametrize(
    ("sites", "people", "mean", "spread"), [(1, 30, 0.0, 0.05), (9, 24, 0.021, 0.02), (3, 6, 0.045, 0.004)]
)
def test_estimate_gain__interval_covers_the_truth(
    terms: EvaluationTerms, sites: int, people: int, mean: float, spread: float
) -> None:
    random, event = np.random.default_rng(1), judge_event(terms)
    # people drawn from a population on two points, the widest spread a mean leaves within the clip, or less
    high, low = min(mean + spread, terms.clip), max(mean - spread, -terms.clip)
    share = (mean - low) / (high - low)
    covered, trials = 0, 400
    for _ in range(trials):
        values = np.where(random.random((sites, people)) < share, high, low)
        noise = (random.laplace if event.mechanism == "laplace" else random.normal)(
            0, event.noise_multiplier * terms.clip, sites
        )
        gain = estimate_gain(terms, judged(list(values.sum(axis=1) + noise), people, terms))
        assert gain is not None
        covered += gain.low <= mean <= gain.high
    assert covered / trials >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_estimate_gain__noise_alone_of_one_site_has_the_quantile_of_laplace() -> None:
    gain = estimate_gain(EvaluationTerms(epsilon=0.01, clip=0.05), judged([0.0], 1000, TERMS))
    assert gain is not None
    b = 100 * 0.05 / 1000
    assert gain.half_width == pytest.approx(b * np.log(20), rel=0.02)  # the people's part is 0.0016 of 0.005


def test_gain_sentence__says_who_and_at_which_price() -> None:
    better = gain_sentence(TERMS, estimate_gain(TERMS, judged([1.0] * 9, 24)))
    assert better.startswith("on 216 held-out patients of 9 hospitals the joint model is better by +0.042 ± 0.0")
    assert better.endswith("at epsilon = 0.3 per held-out patient")
    assert "neither better nor worse beyond chance" in gain_sentence(TERMS, estimate_gain(TERMS, judged([0.0], 5)))
    assert "worse by −0.0" in gain_sentence(TERMS, estimate_gain(TERMS, judged([-1.0] * 9, 24)))
    assert gain_sentence(TERMS, None) == "no site judged the final model on held-out patients"
