"""How much a number of rounds tells about a unit, as distributions and curves: PLD, and RDP beside it.

Training adds whole-numbered noise. Rounded Laplace noise is post-processing of real noise. A discrete Gaussian of σ
grid points costs at most what real noise of √(σ² - 4²) does (`accounted_multiplier`; docs/noise.md has the proof).
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fedcall.privacy.events import Event
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.pooling import SMOOTHING
from fedcall.privacy.terms import Mechanism, Unit

INTERVAL = 1e-3  # of the privacy loss grid; .11 s for 500 steps
ORDERS = tuple(
    [1 + x / 20 for x in range(1, 20)]
    + [2 + x / 10 for x in range(91)]
    + [float(x) for x in range(12, 64)]
    + [64.0, 80.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 1024.0, 2048.0, 4096.0]
)


def accounted_multiplier(mechanism: Mechanism, noise_multiplier: float, grid: int = GRID) -> float:
    """Return the noise multiplier of real noise that protects no more than whole-numbered noise of this one does.

    Parameters
    ----------
    noise_multiplier : float
        Noise scale over the clip norm.
    grid : int
        Grid points per clip norm.

    Returns
    -------
    float
        0 if the noise is so small that the grid shows through.

    Notes
    -----
    Gaussian: √(σ² - 4²) grid points. Adding a discrete Gaussian of 4, centred on zero's place between grid points, to
    the real one is post-processing, and gives the discrete one of σ but for a factor within 1 ± 10^-136 per number
    (Peikert 2010, theorem 3.1; docs/noise.md). Laplace: the same, as rounding a real sum is post-processing.
    """
    if mechanism == "laplace":
        return noise_multiplier
    return math.sqrt(max(0.0, noise_multiplier**2 - (SMOOTHING / grid) ** 2))


class Steps(NamedTuple):
    """Equal noisy sums, `total` of them."""

    mechanism: Mechanism
    noise_multiplier: float
    sampling_rate: float
    substitution: bool  # one unit replaced, rather than added or removed
    total: int


def steps_of(events: Sequence[tuple[Event, int]], unit: Unit) -> tuple[Steps, ...]:
    totals: Counter[tuple[Mechanism, float, float, bool]] = Counter()
    for event, count in events:
        substitution = unit == "example" and event.unit == "patient"
        multiplier = accounted_multiplier(event.mechanism, event.noise_multiplier)
        totals[event.mechanism, multiplier, event.sampling_rate, substitution] += event.steps * count
    return tuple(
        Steps(mechanism, multiplier, rate, substitution, total)
        for (mechanism, multiplier, rate, substitution), total in sorted(totals.items())
    )


def loss_interval(rdp: float) -> float:
    """Return the step of the loss grid: finer for a small epsilon, coarser (still pessimistic) for an absurd one."""
    if not math.isfinite(rdp):
        return 1.0
    return INTERVAL * min(1.0, max(0.01, rdp / 4)) * max(1.0, rdp / 100)


@lru_cache(maxsize=256)
def composed_pld(parts: tuple[Steps, ...], interval: float) -> Any:
    return _composed(parts, interval, dots=True)


def _composed(parts: tuple[Steps, ...], interval: float, dots: bool) -> Any:
    from dp_accounting.pld import privacy_loss_distribution

    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for part in parts:
        total = total.compose(_part_pld(part, interval, dots))
    return total


@lru_cache(maxsize=256)
def _part_pld(part: Steps, interval: float, dots: bool) -> Any:
    if part.mechanism == "gaussian" and part.sampling_rate == 1:
        # Gaussians compose to a Gaussian, without any numerical composition.
        together = part._replace(noise_multiplier=part.noise_multiplier / math.sqrt(part.total), total=1)
        return _single_pld(together, interval, dots)
    # Made once for all numbers of steps: to make it takes longer than to compose it with itself.
    return _single_pld(part._replace(total=1), interval, dots).self_compose(part.total)


@lru_cache(maxsize=64)
def _single_pld(step: Steps, interval: float, dots: bool) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as distributions

    # A substitution moves a sum by two clip norms: half the noise, relative to the sensitivity.
    if step.mechanism == "laplace":
        return distributions.from_laplace_mechanism(
            step.noise_multiplier / 2 if step.substitution else step.noise_multiplier,
            value_discretization_interval=interval,
            sampling_prob=1.0 if step.substitution else step.sampling_rate,  # convexity: sampling can only help
            use_connect_dots=dots,
        )
    return distributions.from_gaussian_mechanism(
        step.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=step.sampling_rate,
        neighboring_relation=NeighboringRelation.REPLACE_ONE
        if step.substitution
        else NeighboringRelation.ADD_OR_REMOVE_ONE,
        use_connect_dots=dots,
    )


@lru_cache(maxsize=256)
def loss_quantile(parts: tuple[Steps, ...], chance: float, interval: float) -> float:
    """Return a loss that is passed with a probability of at most `chance`, whether the unit took part or not.

    It is that of the pair of distributions in `_part_pld`: one unit at the clip norm in every step, everybody else
    known. Losses of a step are rounded up to multiples of `interval`, so it is never too small. (The curves of
    `composed_pld` bound δ(ε) more tightly by "connecting the dots", which moves mass of single losses down, too.)
    """
    pld = _composed(parts, interval, dots=False)
    return max(_quantile(pmf, chance) for pmf in (pld._pmf_remove, pld._pmf_add))


def _quantile(pmf: Any, chance: float) -> float:
    dense = pmf.to_dense_pmf()  # dp-accounting has no public access to single losses
    probabilities, infinite = np.asarray(dense._probs), float(dense._infinity_mass)
    beyond = np.append(np.cumsum(probabilities[::-1])[::-1][1:], 0.0) + infinite  # P(loss > each)
    if infinite > chance:
        return math.inf
    place = int(np.argmax(beyond <= chance))
    return max(0.0, float((dense._lower_loss + place) * dense._discretization))


@lru_cache(maxsize=64)
def group_pld(parts: tuple[Steps, ...], size: int, interval: float) -> Any:
    from dp_accounting.pld import privacy_loss_distribution as distributions
    from scipy.stats import binom

    taken = np.arange(size + 1)
    total = distributions.identity(value_discretization_interval=interval)
    for part in parts:
        single = distributions.from_mixture_gaussian_mechanism(
            part.noise_multiplier,
            sensitivities=taken.astype(float),
            sampling_probs=binom.pmf(taken, size, part.sampling_rate),
            value_discretization_interval=interval,
        )
        total = total.compose(single.self_compose(part.total))
    return total


def event_rdp(event: Event, unit: Unit, orders: tuple[float, ...]) -> np.ndarray:
    """Return the RDP of one round to one unit at each of `orders`; infinite where nothing bounds it (see `compose`)."""
    if event.noise_multiplier == 0 or (unit == "patient" and event.unit == "example"):
        return np.full(len(orders), np.inf)
    [part] = steps_of([(event, 1)], unit)
    if part.noise_multiplier == 0:  # so little noise that the grid shows through
        return np.full(len(orders), np.inf)
    return step_rdp(*part[:4], orders) * part.total


@lru_cache(maxsize=1024)
def step_rdp(
    mechanism: Mechanism,
    noise_multiplier: float,
    sampling_rate: float,
    substitution: bool,
    orders: tuple[float, ...] = ORDERS,
) -> np.ndarray:
    """Return the RDP of one step at `orders`. For substitutions the help of sampling is left out (convexity)."""
    if substitution:
        return step_rdp(mechanism, noise_multiplier / 2, 1.0, False, orders)
    if mechanism == "laplace":
        return _laplace_rdp(noise_multiplier, sampling_rate, orders)
    from absl import logging
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(orders)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # a fractional order whose series does not converge is left out, harmlessly
    try:
        accountant.compose(PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise_multiplier)))
    finally:
        logging.set_verbosity(verbosity)
    rdp: np.ndarray = accountant.rdp
    return rdp


def _laplace_rdp(scale: float, rate: float, orders: tuple[float, ...]) -> np.ndarray:
    """Return the RDP of the Poisson-sampled Laplace mechanism at `orders`, by quadrature.

    The dominating pair is Q = Laplace(0, b) against P = (1 − q) Q + q Laplace(1, b). Its likelihood ratio is constant
    outside [0, 1], so only that interval is integrated (Gauss and Legendre, 256 nodes); both directions are taken.
    """
    from scipy.special import logsumexp  # a quarter of a second that a start of the workflow need not spend

    nodes, weights = np.polynomial.legendre.leggauss(256)
    x = (nodes + 1) / 2
    # Log mass of Q: left of 0, at the nodes, right of 1; and the log-likelihood ratio of the unsampled pair there.
    log_mass = np.concatenate([[-math.log(2)], np.log(weights / 2) - x / scale - math.log(2 * scale)])
    log_mass = np.append(log_mass, -1 / scale - math.log(2))
    shift = np.concatenate([[-1 / scale], (2 * x - 1) / scale, [1 / scale]])
    log_ratio = np.logaddexp(math.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + shift)
    curve = []
    for order in orders:
        forward = logsumexp(log_mass + order * log_ratio)
        backward = logsumexp(log_mass + (1 - order) * log_ratio)
        curve.append(max(forward, backward, 0.0) / (order - 1))
    return np.array(curve)


def rdp_delta(rdp: np.ndarray, epsilon: float) -> float:
    from dp_accounting.rdp.rdp_privacy_accountant import compute_delta

    return float(compute_delta(ORDERS, rdp, epsilon)[0])
