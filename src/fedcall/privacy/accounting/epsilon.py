"""From events to epsilon: privacy loss distributions (PLD), with Rényi differential privacy (RDP) always beside them.

Adjacency is "add or remove one unit". PLD is the tighter bound and the number every cap is compared with; it is
computed pessimistically (rounding only ever raises it). RDP is a second, independent bound; far apart, one is wrong.

Training adds whole-numbered noise. Rounded Laplace noise is post-processing of real noise. A discrete Gaussian of σ
grid points costs at most what real noise of √(σ² - 4²) does (`accounted_multiplier`; docs/noise.md has the proof).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import logsumexp

from fedcall.privacy.events import Event, round_event
from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.pooling import SMOOTHING
from fedcall.privacy.terms import Mechanism, PrivacyTerms, Unit

__all__ = [
    "Epsilon",
    "accounted_multiplier",
    "compose",
    "group_epsilon",
    "noise_multiplier_for",
    "round_event",
    "study_epsilon",
]

INTERVAL = 1e-3  # of the privacy loss grid; .11 s for 500 steps
ORDERS = tuple(
    [1 + x / 20 for x in range(1, 20)]
    + [2 + x / 10 for x in range(91)]
    + [float(x) for x in range(12, 64)]
    + [64.0, 80.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 1024.0, 2048.0, 4096.0]
)


@dataclass(frozen=True)
class Epsilon:
    """Two upper bounds on one epsilon; infinite without noise.

    `pld` is the number that caps are compared with. Over several studies no PLD is proven (terms are chosen after
    results), so both are then the bound of the RDP filter, and `by` says so (`accounting.filter`).
    """

    pld: float
    rdp: float
    by: Literal["PLD", "RDP filter"] = "PLD"

    @property
    def is_finite(self) -> bool:
        """Whether anything is guaranteed at all."""
        return math.isfinite(self.pld)

    def exceeds(self, cap: float | None) -> bool:
        """Say whether the PLD bound passes a cap; no cap is never passed."""
        return cap is not None and not self.pld <= cap


def study_epsilon(terms: PrivacyTerms, rounds: int) -> Epsilon:
    """Return what `rounds` rounds under `terms` cost a unit, at the terms' delta."""
    return compose([(round_event(terms), rounds)], terms.delta)


def compose(events: Iterable[tuple[Event, int]], delta: float, unit: Unit | None = None) -> Epsilon:
    """Return the epsilon of all events together.

    Parameters
    ----------
    events : iterable of (Event, int)
        Each event with the number of rounds it happened in. None at all cost nothing.
    delta : float
        In (0, 1).
    unit : "patient", "example" or None
        What the epsilon protects; None if all events have the same unit.

    Returns
    -------
    Epsilon
        At unit "patient", an example-level event costs infinity: it bounds each row, and nothing bounds the number
        of rows of a patient. At unit "example", a patient-level event counts as the substitution of a patient,
        because adding one row changes a patient's clipped contribution by up to two clip norms.

    Raises
    ------
    ValueError
        If delta is out of range, a count is negative, or units differ and `unit` does not say which is meant.
    """
    events = [(event, count) for event, count in events if count]
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1). Found {delta}.")
    if any(count < 0 for _, count in events):
        raise ValueError("a count of rounds must not be negative.")
    units = {event.unit for event, _ in events}
    if len(units) > 1 and unit is None:
        raise ValueError("events of unit 'patient' and 'example' have no common epsilon; say which unit is meant.")
    wanted = unit or (units.pop() if units else "patient")
    parts = _steps(events, wanted)
    if any(part.noise_multiplier == 0 for part in parts) or (
        wanted == "patient" and any(event.unit == "example" for event, _ in events)
    ):
        return Epsilon(math.inf, math.inf)
    return _epsilon(parts, delta)


def group_epsilon(events: Iterable[tuple[Event, int]], delta: float, size: int) -> Epsilon:
    """Return the epsilon of `size` units together, for example a family, from events of one unit.

    Notes
    -----
    Relatives share alleles, so a family is the smallest group worth naming. Units are sampled independently, so a
    group of k moves a Gaussian sum by at most Binomial(k, q) clip norms: PLD of a mixture of Gaussians (Schuchardt et
    al. 2024). RDP, and Laplace, use the generic conversion of an (ε, δ(ε)) curve for one unit into
    (kε, δ(ε) (e^kε − 1)/(e^ε − 1)) for k (Vadhan 2017, lemma 2.2), which is looser.
    """
    events = list(events)
    if size < 1:
        raise ValueError(f"a group has at least one unit. Found {size}.")
    single = compose(events, delta)
    if size == 1 or not single.is_finite or not events:
        return single
    parts = _steps(events, events[0][0].unit)
    curve = np.sum([_rdp(*part[:4]) * part.total for part in parts], axis=0)
    rdp = _group_bound(lambda epsilon: _rdp_delta(curve, epsilon), single.rdp, delta, size)
    if all(part.mechanism == "gaussian" for part in parts):
        pld = float(_group_pld(parts, size, 8 * _interval(rdp)).get_epsilon_for_delta(delta))
    else:
        curve_pld = _pld(parts, _interval(single.rdp))
        pld = _group_bound(lambda epsilon: float(curve_pld.get_delta_for_epsilon(epsilon)), single.pld, delta, size)
    return Epsilon(min(pld, rdp), rdp)


def noise_multiplier_for(terms: PrivacyTerms, rounds: int, epsilon: float) -> float:
    """Return the least noise multiplier (to .1 %, rounded up) with which `rounds` rounds cost at most `epsilon`.

    Raises
    ------
    ValueError
        If epsilon is not positive, or no multiplier up to 10^5 is enough.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive. Found {epsilon}.")

    def cost(multiplier: float) -> float:
        return study_epsilon(terms.model_copy(update={"noise_multiplier": multiplier}), rounds).pld

    low, high = 1e-2, 1.0
    while cost(high) > epsilon:
        low, high = high, 2 * high
        if high > 1e5:
            raise ValueError(f"no noise multiplier up to 1e5 reaches epsilon {epsilon:g}.")
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return math.ceil(high * 1e4) / 1e4


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


class _Steps(NamedTuple):
    """Equal noisy sums, `total` of them."""

    mechanism: Mechanism
    noise_multiplier: float
    sampling_rate: float
    substitution: bool  # one unit replaced, rather than added or removed
    total: int


def _steps(events: Sequence[tuple[Event, int]], unit: Unit) -> tuple[_Steps, ...]:
    totals: Counter[tuple[Mechanism, float, float, bool]] = Counter()
    for event, count in events:
        substitution = unit == "example" and event.unit == "patient"
        multiplier = accounted_multiplier(event.mechanism, event.noise_multiplier)
        totals[event.mechanism, multiplier, event.sampling_rate, substitution] += event.steps * count
    return tuple(
        _Steps(mechanism, multiplier, rate, substitution, total)
        for (mechanism, multiplier, rate, substitution), total in sorted(totals.items())
    )


@lru_cache(maxsize=4096)
def _epsilon(parts: tuple[_Steps, ...], delta: float) -> Epsilon:
    if not parts:
        return Epsilon(0.0, 0.0)
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    rdp_curve = np.sum([_rdp(*part[:4]) * part.total for part in parts], axis=0)
    rdp = float(compute_epsilon(ORDERS, rdp_curve, delta)[0]) if np.isfinite(rdp_curve).any() else math.inf
    try:
        with np.errstate(over="ignore"):
            pld = float(_pld(parts, _interval(rdp)).get_epsilon_for_delta(delta))
    except (ValueError, ArithmeticError, MemoryError):
        pld = math.nan
    return Epsilon(pld if 0 <= pld < math.inf else rdp, rdp)


def _interval(rdp: float) -> float:
    """Return the step of the loss grid: finer for a small epsilon, coarser (still pessimistic) for an absurd one."""
    if not math.isfinite(rdp):
        return 1.0
    return INTERVAL * min(1.0, max(0.01, rdp / 4)) * max(1.0, rdp / 100)


@lru_cache(maxsize=256)
def _pld(parts: tuple[_Steps, ...], interval: float) -> Any:
    from dp_accounting.pld import privacy_loss_distribution

    total = privacy_loss_distribution.identity(value_discretization_interval=interval)
    for part in parts:
        total = total.compose(_part_pld(part, interval))
    return total


@lru_cache(maxsize=256)
def _part_pld(part: _Steps, interval: float) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as distributions

    # A substitution moves a sum by two clip norms: half the noise, relative to the sensitivity.
    if part.mechanism == "laplace":
        scale = part.noise_multiplier / 2 if part.substitution else part.noise_multiplier
        rate = 1.0 if part.substitution else part.sampling_rate  # convexity: sampling can only help
        single = distributions.from_laplace_mechanism(scale, value_discretization_interval=interval, sampling_prob=rate)
        return single.self_compose(part.total)
    relation = NeighboringRelation.REPLACE_ONE if part.substitution else NeighboringRelation.ADD_OR_REMOVE_ONE
    if part.sampling_rate == 1:  # Gaussians compose to a Gaussian, without any numerical composition
        return distributions.from_gaussian_mechanism(
            part.noise_multiplier / math.sqrt(part.total),
            value_discretization_interval=interval,
            neighboring_relation=relation,
        )
    single = distributions.from_gaussian_mechanism(
        part.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=part.sampling_rate,
        neighboring_relation=relation,
    )
    return single.self_compose(part.total)


@lru_cache(maxsize=64)
def _group_pld(parts: tuple[_Steps, ...], size: int, interval: float) -> Any:
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
    [part] = _steps([(event, 1)], unit)
    if part.noise_multiplier == 0:  # so little noise that the grid shows through
        return np.full(len(orders), np.inf)
    return _rdp(*part[:4], orders) * part.total


@lru_cache(maxsize=1024)
def _rdp(
    mechanism: Mechanism,
    noise_multiplier: float,
    sampling_rate: float,
    substitution: bool,
    orders: tuple[float, ...] = ORDERS,
) -> np.ndarray:
    """Return the RDP of one step at `orders`. For substitutions the help of sampling is left out (convexity)."""
    if substitution:
        return _rdp(mechanism, noise_multiplier / 2, 1.0, False, orders)
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


def _rdp_delta(rdp: np.ndarray, epsilon: float) -> float:
    from dp_accounting.rdp.rdp_privacy_accountant import compute_delta

    return float(compute_delta(ORDERS, rdp, epsilon)[0])


def _group_bound(delta_of: Callable[[float], float], start: float, delta: float, size: int) -> float:
    def group_delta(epsilon: float) -> float:
        # log of δ(ε) (e^kε − 1)/(e^ε − 1), which is at most δ(ε) k e^((k−1)ε)
        value = delta_of(epsilon)
        return math.log(value) + math.log(size) + (size - 1) * epsilon if value > 0 else -math.inf

    low, high = 0.0, max(start, 1e-3)
    while group_delta(high) > math.log(delta):
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if group_delta(middle) <= math.log(delta) else (middle, high)
    return size * high
