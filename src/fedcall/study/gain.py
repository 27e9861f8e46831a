"""What the judge's noisy totals say: the mean difference of F1, with an interval for noise and sampling of people."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.privacy.bisection import least
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.judgement import JudgedSite, judge_event

LEVEL = 0.95
_POINTS = 4096


@dataclass(frozen=True)
class Gain:
    """The mean clipped difference of F1 over held-out patients, final less first model, and its 95 % interval."""

    people: int
    sites: int
    value: float
    low: float
    high: float
    noise_std: float  # of the mean, the part of the noise

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def estimate_gain(terms: EvaluationTerms, judged: Sequence[JudgedSite]) -> Gain | None:
    """Return the gain that the sites' totals show; None without a site.

    The denominator is the declared number of held-out patients. The interval adds the noise, whose distribution is
    known, and the sampling of people, whose variance is not released: that of a value in [-c, c] with mean m is at most
    c² - m² (Bhatia and Davis 2000), and this bound is used, with the m of the interval that is nearest to 0. So the
    interval covers at least 95 %, and is wider than the same patients would give without privacy.
    """
    people = sum(site.people for site in judged)
    if people == 0:
        return None
    event, clip = judge_event(terms), terms.clip
    value = sum(site.total for site in judged) / GRID * clip / people
    scale = event.noise_multiplier * clip / people
    noise_std = scale * math.sqrt(len(judged)) * (math.sqrt(2) if event.mechanism == "laplace" else 1.0)
    noise_only = _quantile(_characteristic(event.mechanism, scale, len(judged), 0.0), noise_std)
    least_mean = min(max(0.0, abs(value) - noise_only), clip)  # what the noise leaves of it
    spread = math.sqrt((clip**2 - least_mean**2) / people)
    std = math.hypot(noise_std, spread)
    half = _quantile(_characteristic(event.mechanism, scale, len(judged), spread), std)
    return Gain(people, len(judged), value, value - half, value + half, noise_std)


def gain_sentence(terms: EvaluationTerms, gain: Gain | None) -> str:
    """Return the gain in words; a difference of F1 is written with its sign."""
    if gain is None:
        return "no site judged the final model on held-out patients"
    people = f"{gain.people} held-out patient{'' if gain.people == 1 else 's'}"
    hospitals = f"{gain.sites} hospital{'' if gain.sites == 1 else 's'}"
    figure = f"{_written(gain.value)} ± {gain.half_width:.3f}"
    if gain.low > 0 or gain.high < 0:
        figure = f"{'better' if gain.low > 0 else 'worse'} by {figure}"
    else:
        figure = f"neither better nor worse beyond chance, {figure}"
    return (
        f"on {people} of {hospitals} the joint model is {figure} in F1, at epsilon = {terms.epsilon:g} per held-out"
        " patient"
    )


def _written(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _characteristic(mechanism: str, scale: float, sites: int, spread: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the characteristic function of the sum of the sites' noises and a normal deviation of `spread`."""

    def function(at: np.ndarray) -> np.ndarray:
        noise = (1 + (scale * at) ** 2) ** -sites if mechanism == "laplace" else np.exp(-sites * (scale * at) ** 2 / 2)
        return np.asarray(noise * np.exp(-((spread * at) ** 2) / 2))

    return function


def _quantile(function: Callable[[np.ndarray], np.ndarray], std: float) -> float:
    """Return x with P(|X| > x) = 5 % of a symmetric variable, by Gil-Pelaez 1951 and bisection."""
    step = 2 * math.pi / (40 * std)  # the density is periodic in 40 standard deviations
    at = (np.arange(_POINTS) + 0.5) * step
    weights = function(at) / at

    def inside(x: float) -> float:
        return float(2 / math.pi * step * np.sum(np.sin(at * x) * weights))

    return least(lambda x: inside(x) >= LEVEL, 0.0, 10 * std, 1e-15 * std)
