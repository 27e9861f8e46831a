"""How long an honest update is: the noise it must carry, and the most that signal and noise together can reach.

Local training is plain SGD on noisy sums, w ← w − lr (S_t + n_t) / (q N), and what is released is the last iterate or
an exponential moving average of iterates with decay a (m_0 = w_0, m_t = a m_{t−1} + (1 − a) w_t). An update is
therefore −lr/(qN) Σ_t c_t (S_t + n_t), a known linear map of the noise, with c_t = 1 for the last iterate and
c_t = 1 − a^(T−t+1) for the average. N is the declared number of units, q the sampling rate, T the steps of a round.
The clip norm C_t is the terms' own in every step, or the one that adaptive clipping says it had.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcall.privacy.mechanism.adaptive_clipping import sum_multiplier
from fedcall.privacy.terms import PrivacyTerms

FALSE_REFUSAL = 1e-10  # chance that an honest update breaks one of the bounds, each
CLOCK_TICKS = 1e4  # of the union bound that adaptive clipping needs, see `norm_bounds`
ROUNDING = 1e-3  # relative room for float32 weights


@dataclass(frozen=True)
class NormBounds:
    """L2 norms between which an honest update lies, but for a chance below 10^-9."""

    floor: float
    ceiling: float


def update_noise_std(
    terms: PrivacyTerms,
    learning_rate: float,
    iterate_averaging: float,
    units: int,
    clip_norms: Sequence[float] | None = None,
) -> float:
    """Return the standard deviation of the noise in one coordinate of an update.

    Parameters
    ----------
    terms : PrivacyTerms
        What one round does.
    learning_rate, iterate_averaging : float
        Of local training; `iterate_averaging` is the decay a, 0 for the last iterate.
    units : int
        The declared number N of privacy units of the site.
    clip_norms : sequence of float, length terms.steps_per_round
        The clip norm of every step; by default the terms' own.

    Returns
    -------
    float
        lr s / (q N) · √(Σ_t c_t² C_t²), in units of the weights, where s is the noise multiplier of a sum (gaussian)
        or √2 times it (a Laplace variable of scale b has variance 2b²).
    """
    coefficients = _coefficients(terms.steps_per_round, iterate_averaging)
    return float(np.sqrt(((coefficients * _noise_of_steps(terms, learning_rate, units, clip_norms)) ** 2).sum()))


def last_noise_std(
    terms: PrivacyTerms,
    learning_rate: float,
    iterate_averaging: float,
    units: int,
    clip_norms: Sequence[float] | None = None,
) -> float:
    """Return the part of `update_noise_std` that the last step's noise has; nothing else of an update depends on it."""
    coefficients = _coefficients(terms.steps_per_round, iterate_averaging)
    return float(coefficients[-1] * _noise_of_steps(terms, learning_rate, units, clip_norms)[-1])


def norm_bounds(
    terms: PrivacyTerms,
    learning_rate: float,
    iterate_averaging: float,
    units: int,
    parameters: int,
    clip_norms: Sequence[float] | None = None,
) -> NormBounds:
    """Return the L2 norms that an honest update of `parameters` coordinates cannot leave.

    Parameters
    ----------
    terms, learning_rate, iterate_averaging, units, clip_norms
        As for `update_noise_std`.
    parameters : int
        Number of trainable weights, that is coordinates of the update.

    Returns
    -------
    NormBounds
        The floor may be 0 where signal could hide the noise; an honest update breaks floor or ceiling with
        probability below 10^-9.

    Notes
    -----
    Ceiling: upper tail of the noise, plus the longest signal. A sum of clipped units is at most C times the number
    of units drawn, which is bounded by the tail of Binomial(N, q) in every step.

    Floor: an independent signal cannot make noise shorter (Anderson 1955: the density is symmetric and log-concave),
    but later sums depend on earlier noise and could undo it. So look at the last k steps only: what came before, and
    the first of these sums, are independent of their noise; the other k − 1 sums shorten it by at most their length.
    Every k gives a valid floor; the best is taken. The noise's lower tail is chi-square for gaussian; for laplace,
    Maurer 2003: P(ΣX² ≤ E ΣX² − t) ≤ exp(−t² / (2 Σ E X⁴)).

    Adaptive clipping lets the clip norm of a step follow earlier noise (through one noisy count a step). The noise is
    then Brownian motion run by the clock Σ c_t² C_t² (Dambis, Dubins and Schwarz), and a bound for every fixed time
    becomes one for the time that was reached by a union over the ticks of a fine geometric clock.
    """
    coefficients = _coefficients(terms.steps_per_round, iterate_averaging)
    stds = coefficients * _noise_of_steps(terms, learning_rate, units, clip_norms)
    longest_step = _drawn_at_most(terms, units) * learning_rate / (terms.sampling_rate * units)
    signals = np.cumsum((longest_step * coefficients * _clip_norms(terms, clip_norms))[::-1])  # of the last 1, 2, ...
    shortest = _shortest(terms, stds[::-1], parameters)
    floor = max(0.0, float((shortest - np.concatenate([[0.0], signals[:-1]])).max()))
    ceiling = float(signals[-1]) + _longest(terms, stds, parameters)
    return NormBounds(floor * (1 - ROUNDING), ceiling * (1 + ROUNDING))


def sum_norm_bounds(terms: PrivacyTerms, units: int, parameters: int, least: float, most: float) -> NormBounds:
    """Return the L2 norms that an honest noisy sum of one step cannot leave, in clip norms.

    Parameters
    ----------
    units : int
        Declared, of all sites in the sum.
    parameters : int
        Coordinates.
    least, most : float
        Noise multiplier of the sum: what is counted on for the floor, and what it may be for the ceiling.

    Notes
    -----
    Floor: a signal that is independent of the noise cannot make it shorter (Anderson 1955). Ceiling: the noise's upper
    tail, and one clip norm for each unit drawn.
    """
    if terms.mechanism != "gaussian":
        raise ValueError("sums over sites carry gaussian noise.")
    floor = float(_shortest(terms, np.array([least]), parameters)[0])
    ceiling = _drawn_at_most(terms, units) + _longest(terms, np.array([most]), parameters)
    return NormBounds(floor * (1 - ROUNDING), ceiling * (1 + ROUNDING))


def largest_share_deviation(terms: PrivacyTerms, units: int) -> float:
    """Return how far from ½ a share measured by adaptive clipping can honestly be, but for a chance below 10^-10."""
    if terms.adaptation is None:
        raise ValueError("these terms clip at a fixed norm.")
    from scipy.stats import norm

    chance = FALSE_REFUSAL / 2 / terms.steps_per_round
    tail = float(norm.isf(chance)) if terms.mechanism == "gaussian" else float(np.log(1 / chance))
    counted = 0.5 * _drawn_at_most(terms, units) / (terms.sampling_rate * units)
    return counted + tail * terms.adaptation.quantile_noise


def _coefficients(steps: int, decay: float) -> np.ndarray:
    """Return c_1 … c_T: float64, shape (steps,)."""
    if not 0 <= decay < 1:
        raise ValueError(f"iterate averaging must be in [0, 1). Found {decay}.")
    return 1.0 - decay ** np.arange(steps, 0, -1, dtype=np.float64)


def _clip_norms(terms: PrivacyTerms, clip_norms: Sequence[float] | None) -> np.ndarray:
    steps = terms.steps_per_round
    norms = np.full(steps, terms.clip_norm) if clip_norms is None else np.array(clip_norms, dtype=np.float64)
    if norms.shape != (steps,):
        raise ValueError(f"a round has {steps} steps, each with a clip norm. Found {norms.size}.")
    return norms


def _noise_of_steps(
    terms: PrivacyTerms, learning_rate: float, units: int, clip_norms: Sequence[float] | None
) -> np.ndarray:
    """Return the standard deviation that the noise of each step moves one weight by: float64, shape (steps,)."""
    multiplier = sum_multiplier(terms, units) * (np.sqrt(2) if terms.mechanism == "laplace" else 1.0)
    return learning_rate * multiplier * _clip_norms(terms, clip_norms) / (terms.sampling_rate * units)


def _chance(terms: PrivacyTerms) -> float:
    return FALSE_REFUSAL if terms.clipping == "fixed" else FALSE_REFUSAL / CLOCK_TICKS


def _drawn_at_most(terms: PrivacyTerms, units: int) -> float:
    from scipy.stats import binom

    return float(binom.isf(FALSE_REFUSAL / 2 / terms.steps_per_round, units, terms.sampling_rate))


def _shortest(terms: PrivacyTerms, stds: np.ndarray, parameters: int) -> np.ndarray:
    """Return a lower bound on the norm of the noise of the first 1, 2, … entries of `stds` together."""
    variances = np.cumsum(stds**2)
    if terms.mechanism == "gaussian":
        from scipy.stats import chi2

        norms: np.ndarray = np.sqrt(variances * chi2.ppf(_chance(terms), parameters))
        return norms
    room = np.sqrt(2 * parameters * _fourth_moments(stds) * np.log(1 / _chance(terms)))
    norms = np.sqrt(np.maximum(0.0, parameters * variances - room))
    return norms


def _longest(terms: PrivacyTerms, stds: np.ndarray, parameters: int) -> float:
    """Return an upper bound on the norm of the noise of all steps together."""
    variance = float((stds**2).sum())
    if variance == 0:
        return 0.0
    if terms.mechanism == "gaussian":
        from scipy.stats import chi2

        return float(np.sqrt(variance * chi2.isf(_chance(terms) / 2, parameters)))
    # Laplace squares have heavy tails: bound every coordinate (Chernoff), then their sum (Bernstein).
    scales = stds / np.sqrt(2)
    chance = _chance(terms) / 4
    rates = np.linspace(0.05, 0.99, 48)[:, None] / scales.max()
    log_moments = -np.log1p(-((rates * scales) ** 2)).sum(axis=1)
    largest = float(((np.log(2 * parameters / chance) + log_moments) / rates[:, 0]).min())
    tail = np.log(1 / chance)
    linear = tail * largest**2 / 3
    spread = np.sqrt(linear**2 + 2 * tail * parameters * _fourth_moments(stds)[-1])
    return float(np.sqrt(parameters * variance + linear + spread))


def _fourth_moments(stds: np.ndarray) -> np.ndarray:
    """Return E X⁴ of sums of the first 1, 2, … Laplace variables: 3 variance² + Σ 12 b⁴, with 12 b⁴ = 3 std⁴."""
    moments: np.ndarray = 3 * np.cumsum(stds**2) ** 2 + 3 * np.cumsum(stds**4)
    return moments
