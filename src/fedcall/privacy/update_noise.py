"""How long an honest update is: the noise it must carry, and the most that signal and noise together can reach.

Local training is plain SGD on noisy sums, w ← w − lr (S_t + n_t) / (q N), and what is released is the last iterate or
an exponential moving average of iterates with decay a (m_0 = w_0, m_t = a m_{t−1} + (1 − a) w_t). An update is
therefore −lr/(qN) Σ_t c_t (S_t + n_t), a known linear map of the noise, with c_t = 1 for the last iterate and
c_t = 1 − a^(T−t+1) for the average. N is the declared number of units, q the sampling rate, T the steps of a round.
"""

from dataclasses import dataclass

import numpy as np

from fedcall.privacy.terms import PrivacyTerms

FALSE_REFUSAL = 1e-10  # chance that an honest update breaks one of the bounds, each
ROUNDING = 1e-3  # relative room for float32 weights


@dataclass(frozen=True)
class NormBounds:
    """L2 norms between which an honest update lies, but for a chance below 10^-9."""

    floor: float
    ceiling: float


def update_noise_std(terms: PrivacyTerms, learning_rate: float, iterate_averaging: float, units: int) -> float:
    """Return the standard deviation of the noise in one coordinate of an update.

    Parameters
    ----------
    terms : PrivacyTerms
        What one round does.
    learning_rate, iterate_averaging : float
        Of local training; `iterate_averaging` is the decay a, 0 for the last iterate.
    units : int
        The declared number N of privacy units of the site.

    Returns
    -------
    float
        lr s C / (q N) · √(Σ_t c_t²), in units of the weights, where C is the clip norm and s the noise multiplier
        (gaussian) or √2 times it (a Laplace variable of scale b has variance 2b²).
    """
    coefficients = _coefficients(terms.steps_per_round, iterate_averaging)
    return float(_noise_per_step(terms, learning_rate, units) * np.sqrt((coefficients**2).sum()))


def norm_bounds(
    terms: PrivacyTerms, learning_rate: float, iterate_averaging: float, units: int, parameters: int
) -> NormBounds:
    """Return the L2 norms that an honest update of `parameters` coordinates cannot leave.

    Parameters
    ----------
    terms, learning_rate, iterate_averaging, units
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
    """
    coefficients = _coefficients(terms.steps_per_round, iterate_averaging)
    step_std = _noise_per_step(terms, learning_rate, units)
    signal = _drawn_at_most(terms, units) * terms.clip_norm * learning_rate / (terms.sampling_rate * units)
    latest_first = coefficients[::-1]
    signals = signal * np.cumsum(latest_first)  # of the last 1, 2, ... steps
    shortest = _shortest(terms, latest_first * step_std, parameters)
    floor = max(0.0, float((shortest - np.concatenate([[0.0], signals[:-1]])).max()))
    ceiling = float(signals[-1]) + _longest(terms, coefficients * step_std, parameters)
    return NormBounds(floor * (1 - ROUNDING), ceiling * (1 + ROUNDING))


def _coefficients(steps: int, decay: float) -> np.ndarray:
    """Return c_1 … c_T: float64, shape (steps,)."""
    if not 0 <= decay < 1:
        raise ValueError(f"iterate averaging must be in [0, 1). Found {decay}.")
    return 1.0 - decay ** np.arange(steps, 0, -1, dtype=np.float64)


def _noise_per_step(terms: PrivacyTerms, learning_rate: float, units: int) -> float:
    multiplier = terms.noise_multiplier * (np.sqrt(2) if terms.mechanism == "laplace" else 1.0)
    return float(learning_rate * multiplier * terms.clip_norm / (terms.sampling_rate * units))


def _drawn_at_most(terms: PrivacyTerms, units: int) -> float:
    from scipy.stats import binom

    return float(binom.isf(FALSE_REFUSAL / 2 / terms.steps_per_round, units, terms.sampling_rate))


def _shortest(terms: PrivacyTerms, stds: np.ndarray, parameters: int) -> np.ndarray:
    """Return a lower bound on the norm of the noise of the first 1, 2, … entries of `stds` together."""
    variances = np.cumsum(stds**2)
    if terms.mechanism == "gaussian":
        from scipy.stats import chi2

        return np.sqrt(variances * chi2.ppf(FALSE_REFUSAL, parameters))
    room = np.sqrt(2 * parameters * _fourth_moments(stds) * np.log(1 / FALSE_REFUSAL))
    return np.sqrt(np.maximum(0.0, parameters * variances - room))


def _longest(terms: PrivacyTerms, stds: np.ndarray, parameters: int) -> float:
    """Return an upper bound on the norm of the noise of all steps together."""
    variance = float((stds**2).sum())
    if variance == 0:
        return 0.0
    if terms.mechanism == "gaussian":
        from scipy.stats import chi2

        return float(np.sqrt(variance * chi2.isf(FALSE_REFUSAL / 2, parameters)))
    # Laplace squares have heavy tails: bound every coordinate (Chernoff), then their sum (Bernstein).
    scales = stds / np.sqrt(2)
    chance = FALSE_REFUSAL / 4
    rates = np.linspace(0.05, 0.99, 48)[:, None] / scales.max()
    log_moments = -np.log1p(-((rates * scales) ** 2)).sum(axis=1)
    largest = float(((np.log(2 * parameters / chance) + log_moments) / rates[:, 0]).min())
    tail = np.log(1 / chance)
    linear = tail * largest**2 / 3
    spread = np.sqrt(linear**2 + 2 * tail * parameters * _fourth_moments(stds)[-1])
    return float(np.sqrt(parameters * variance + linear + spread))


def _fourth_moments(stds: np.ndarray) -> np.ndarray:
    """Return E X⁴ of sums of the first 1, 2, … Laplace variables: 3 variance² + Σ 12 b⁴, with 12 b⁴ = 3 std⁴."""
    return 3 * np.cumsum(stds**2) ** 2 + 3 * np.cumsum(stds**4)
