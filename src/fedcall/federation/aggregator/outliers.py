"""The outlier screen: whether one site's update is unlike those of the round's other sites.

An honest update is signal plus noise of a known standard deviation; each test asks whether what is left once the noise
is accounted for is still out of proportion, so that small sites, whose noise is large, are not taken for liars.

- long: the signal is more than `ratio` times as long as the others';
- short: it has less than half the energy that its noise alone should have, while the others' have theirs;
- spiked: its largest coordinate is more than `ratio` times theirs, beyond what its noise explains, or any of its values
  is further from theirs than noise gets (`single_values`);
- opposed: it points away from a majority of sites that agree among themselves (a flipped sign, flipped labels).

What this cannot see: signals below the noise, a direction that is neither long nor opposed, two sites (each is the
other's outlier), and half of the sites or more acting together. docs/threat-model.md has the figures.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.federation.aggregator.flat_updates import flat_updates
from fedcall.federation.aggregator.single_values import find_single_values
from fedcall.privacy.terms import Mechanism

LEAST_SITES = 3  # of two, each is the other's outlier
_CHUNK = 1 << 16  # coordinates looked at together: 50 sites take 26 MB
_MEDIAN = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean, for normal values
_OPPOSITION = 0.5  # of the others' agreement; a flipped site of the same strength shows all of it


@dataclass(frozen=True)
class Screened:
    """An update to be screened: where it lies, and the standard deviation of the noise in each of its coordinates."""

    site: str
    update: Path
    noise_std: float


@dataclass(frozen=True)
class Outlier:
    """A site found unlike the others, and how, in words."""

    site: str
    sentence: str


@dataclass(frozen=True)
class Geometry:
    """All that the tests look at.

    Attributes
    ----------
    products : float64, shape (sites, sites)
        Inner products of the updates.
    largest : float64, shape (sites,)
        Largest absolute coordinate of each update.
    parameters : int
        Number of coordinates.
    """

    products: np.ndarray
    largest: np.ndarray
    parameters: int


def find_outliers(updates: Sequence[Screened], z: float, ratio: float, mechanism: Mechanism) -> list[Outlier]:
    """Return the outliers among a round's updates, at most a minority, the most extreme first.

    Parameters
    ----------
    updates : sequence of Screened
        In any order. Fewer than three are never compared.
    z : float
        Standard errors beyond which a difference is not chance.
    ratio : float
        How many times longer than the others a signal may honestly be.
    mechanism : "gaussian" or "laplace"
        Distribution of a step's noise.

    Notes
    -----
    Sites are put out one at a time, and the rest is looked at again, so that one loud site does not make the others
    look opposed.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    if len(ordered) < LEAST_SITES:
        return []
    found = screen(
        measure([update.update for update in ordered]),
        [update.site for update in ordered],
        np.array([update.noise_std for update in ordered]),
        z,
        ratio,
        mechanism,
    )

    def furthest(keep: Sequence[int]) -> tuple[int, str] | None:
        kept = [ordered[index] for index in keep]
        far = find_single_values(
            _chunks([update.update for update in kept]),
            np.array([update.noise_std for update in kept]),
            largest_noise(z, flat_updates([kept[0].update])[0].size, mechanism),
            ratio,
        )
        return far and (far[0], "single values of it are further from the round's other sites' than noise gets")

    return _one_by_one([update.site for update in ordered], found, furthest)


def measure(updates: Sequence[Path]) -> Geometry:
    """Return the geometry of updates on disk; one chunk of all of them is in memory at a time."""
    products = np.zeros((len(updates), len(updates)))
    largest = np.zeros(len(updates))
    parameters = 0
    for rows in _chunks(updates):
        products += rows @ rows.T
        largest = np.maximum(largest, np.abs(rows).max(axis=1, initial=0.0))
        parameters += rows.shape[1]
    return Geometry(products, largest, parameters)


def screen(
    geometry: Geometry, sites: Sequence[str], noise_std: np.ndarray, z: float, ratio: float, mechanism: Mechanism
) -> list[Outlier]:
    """Return the outliers of a geometry; `find_outliers` says what the parameters mean."""

    def worst(keep: Sequence[int]) -> tuple[int, str] | None:
        part = Geometry(geometry.products[np.ix_(keep, keep)], geometry.largest[keep], geometry.parameters)
        return _worst(part, noise_std[keep], z, ratio, mechanism)

    return _one_by_one(sites, [], worst)


def _one_by_one(
    sites: Sequence[str], found: Sequence[Outlier], worst: Callable[[Sequence[int]], tuple[int, str] | None]
) -> list[Outlier]:
    """Return `found` and what `worst` finds among the sites that are left, as long as most sites and three stay.

    `worst` gets the indices of the sites that are left, and returns which of them to put out, and why; or None.
    """
    found = list(found)
    gone = {one.site for one in found}
    keep = [index for index, site in enumerate(sites) if site not in gone]
    limit = (len(sites) - 1) // 2
    while len(keep) >= LEAST_SITES and len(found) < limit:
        outlier = worst(keep)
        if outlier is None:
            break
        found.append(Outlier(sites[keep.pop(outlier[0])], outlier[1]))
    return found


def _worst(
    geometry: Geometry, noise_std: np.ndarray, z: float, ratio: float, mechanism: Mechanism
) -> tuple[int, str] | None:
    """Return the index of the most extreme site and why, by the first test that finds one."""
    lengths = _long(geometry, noise_std, z, ratio, mechanism)
    if lengths.max() > 0:
        return int(lengths.argmax()), f"its signal is more than {ratio:g} times as long as the round's other sites'"
    shortness = _short(geometry, noise_std, z, mechanism)
    if shortness.max() > 0:
        return int(shortness.argmax()), "it carries less noise than agreed, the round's other sites carry theirs"
    spikes = _spiked(geometry, noise_std, z, ratio, mechanism)
    if spikes.max() > 0:
        return int(spikes.argmax()), f"one of its values is more than {ratio:g} times those of the round's other sites"
    opposition = _opposed(geometry, z)
    if opposition.max() > 0:
        return int(opposition.argmax()), "it points away from the round's other sites, which agree among themselves"
    return None


def _long(geometry: Geometry, noise_std: np.ndarray, z: float, ratio: float, mechanism: Mechanism) -> np.ndarray:
    """Return by how much each signal, squared, is too long: float64, shape (sites,).

    |u|² − dτ² estimates the squared length of the signal, with variance (κ − 1) d τ⁴ + 4 τ² |s|², κ the kurtosis of
    the noise (3; at most 6 for laplace). Tested is |s|² ≤ ratio² × the median of the others'.
    """
    d = geometry.parameters
    variance = noise_std**2
    energy = np.diag(geometry.products) - d * variance
    spread = (2.0 if mechanism == "gaussian" else 5.0) * d * variance**2
    errors = np.sqrt(spread + 4 * variance * np.maximum(energy, 0))
    result = np.empty(len(energy))
    for index in range(len(energy)):
        others = np.delete(np.arange(len(energy)), index)
        typical = np.median(energy[others])
        typical_error = _MEDIAN * math.sqrt((errors[others] ** 2).mean() / len(others))
        error = math.hypot(errors[index], ratio**2 * typical_error)
        result[index] = energy[index] - ratio**2 * max(typical, 0.0) - z * error
    return result


def _short(geometry: Geometry, noise_std: np.ndarray, z: float, mechanism: Mechanism) -> np.ndarray:
    """Return how far below half of its noise's energy each update is; 0 where it is not: float64, shape (sites,).

    Later gradients can undo earlier noise, so the noise floor of a single update must leave much room; but what undoes
    noise at one site does so at the others, which train the same model. Compared is |u|² / dτ², at most 1, with the
    others' median; the difference must also be no chance.
    """
    result = np.zeros(len(noise_std))
    if not (noise_std > 0).all():
        return result
    shares = np.diag(geometry.products) / (geometry.parameters * noise_std**2)
    chance = math.sqrt((2.0 if mechanism == "gaussian" else 5.0) / geometry.parameters)
    for index, share in enumerate(shares):
        others = np.delete(shares, index)
        expected = min(1.0, float(np.median(others)))
        error = chance * math.hypot(expected, _MEDIAN * float(np.sqrt((others**2).mean() / len(others))))
        if expected - share > z * error:
            result[index] = max(0.0, 0.5 * expected - share)
    return result


def _spiked(geometry: Geometry, noise_std: np.ndarray, z: float, ratio: float, mechanism: Mechanism) -> np.ndarray:
    """Return by how much each update's largest coordinate is too large: float64, shape (sites,)."""
    noise = noise_std * largest_noise(z, geometry.parameters, mechanism)
    others = [np.median(np.delete(geometry.largest, index)) for index in range(len(noise_std))]
    excess = geometry.largest - noise - ratio * np.array(others)
    return np.asarray(np.where(noise_std > 0, excess, -1.0))


def _opposed(geometry: Geometry, z: float) -> np.ndarray:
    """Return how strongly each site is opposed to an agreeing majority; 0 where it is not: float64, shape (sites,).

    Cosines of independent noise have variance 1/d. The mean cosine with the opponents shares the site's own noise
    along their common direction, which adds their agreement to the variance of one cosine over their number.
    """
    lengths = np.sqrt(np.maximum(np.diag(geometry.products), np.finfo(float).tiny))
    cosines = geometry.products / np.outer(lengths, lengths)
    result = np.zeros(len(lengths))
    for index in range(len(lengths)):
        opponents = [other for other in range(len(lengths)) if other != index and cosines[index, other] < 0]
        if len(opponents) < 2 or 2 * len(opponents) <= len(lengths) - 1:
            continue
        pairs = cosines[np.ix_(opponents, opponents)][np.triu_indices(len(opponents), 1)]
        agreement, opposition = float(pairs.mean()), float(-cosines[index, opponents].mean())
        if agreement * math.sqrt(geometry.parameters * len(pairs)) < z or opposition < _OPPOSITION * agreement:
            continue
        error = math.sqrt((1 / len(opponents) + agreement) / geometry.parameters)
        result[index] = max(0.0, opposition - z * error)
    return result


def largest_noise(z: float, parameters: int, mechanism: Mechanism) -> float:
    """Return the standard deviations that no coordinate's noise passes, but for a chance as small as passing z."""
    from scipy.stats import norm

    log_chance = float(norm.logsf(z)) - math.log(max(parameters, 1))
    if mechanism == "laplace":  # of one step; the noise of several has lighter tails
        return -log_chance / math.sqrt(2)
    return float(norm.isf(math.exp(log_chance)))


def _chunks(updates: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the same coordinates of all updates: float64, shape (sites, up to 65,536)."""
    flat = flat_updates(updates)
    for start in range(0, flat[0].size, _CHUNK):
        yield np.stack([update.read(start, start + _CHUNK) for update in flat])
