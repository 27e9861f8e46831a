"""Whether an update carries noise of its own, and of the agreed kind: what its length alone does not show.

Both tests rest on the noise n of a round's last step, which nothing else of the update depends on. Given the rest r,
an update is r + n, and n has a known density in every coordinate; so

- left over, after the best multiple of any other update is taken away, is at least as much as n alone leaves
  (Anderson 1955: an independent shift makes a symmetric, log-concave vector no shorter), unless the noise is another's;
- no narrow interval holds many coordinates (a density of at most 1/(σ√2π) for gaussian, 1/(σ√2) for laplace), unless
  the values are constant, few, or made from a few.

Honest updates fail either with a chance below 10⁻⁹ each, whatever the data. Neither shows noise that an attacker drew
himself and knows.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedcall.federation.aggregator.flat_updates import flat_updates
from fedcall.federation.aggregator.update_checks import Refused, noise_of_claim
from fedcall.privacy.mechanism.update_noise import last_noise_std
from fedcall.privacy.terms import Mechanism
from fedcall.study.claims import Claim
from fedcall.study.terms import Study

FALSE_REFUSAL = 1e-10
SAMPLED = 4096
"""Coordinates that are compared; which ones only the coordinator knows. 16 kB of each update stay in memory."""
_WIDTHS = (1 / 8, 1 / 1000)  # of an interval, in standard deviations of the last step's noise
_LEAST_COORDINATES = 100  # fewer say too little
_ULP, _FINE = 2.0**-23, 64  # an interval is so many steps of float32 wide, so that rounding does not matter


def check_noise_shape(study: Study, claim: Claim, tensors: Mapping[str, np.ndarray], base_size: float) -> None:
    """Refuse an update whose values crowd together as no noise of the agreed size lets them.

    Parameters
    ----------
    study, claim
        Agreed terms and the site's word.
    tensors : mapping of str to float32 array
        The update.
    base_size : float
        Largest absolute weight of the model it starts from: an update is a difference of float32 weights, and no finer
        than their last digits.

    Raises
    ------
    Refused
        With reason "noise-floor".
    """
    std = noise_of_last_step(study, claim)
    values = np.sort(np.concatenate([np.asarray(tensor, np.float64).reshape(-1) for tensor in tensors.values()]))
    if std == 0 or len(values) < _LEAST_COORDINATES:
        return
    for width in _WIDTHS:
        if width * std < _FINE * _ULP * base_size:
            continue  # rounding alone makes values equal
        most = _most_within(len(values), width, study.privacy.mechanism)
        crowd = int((np.searchsorted(values, values + width * std, side="right") - np.arange(len(values))).max())
        if crowd > most:
            raise Refused(
                "noise-floor",
                f"{crowd} of {len(values)} values of the update lie within {width:g} of the last step's noise;"
                f" noise of the agreed kind puts at most {most} there",
            )


class EarlierUpdates:
    """Samples of the updates that were accepted so far, read from disk once.

    Parameters
    ----------
    secret : bytes
        Of the coordinator: sites must not know which coordinates are compared.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._samples: dict[Path, np.ndarray] = {}

    def sample(self, path: Path) -> np.ndarray:
        """Return the compared coordinates of an update: float32, shape (at most SAMPLED,)."""
        if path not in self._samples:
            update = flat_updates([path])[0]
            values = update.read(0, update.size)
            self._samples[path] = values[_places(self._secret, update.size)].astype(np.float32)
        return self._samples[path]

    def find_reused(
        self, updates: Sequence[Path], stds: Sequence[float], earlier: Sequence[Path], mechanism: Mechanism
    ) -> list[int]:
        """Return the positions of updates that repeat the noise of an earlier one, or of one before them in the list.

        Parameters
        ----------
        updates : sequence of Path
            Of the round, in the order of their arrival: of two that are alike the later one repeats.
        stds : sequence of float
            Standard deviation of the noise of each one's last step.
        earlier : sequence of Path
            Accepted updates of the rounds before, of every site.
        mechanism : "gaussian" or "laplace"
            Distribution of a step's noise.
        """
        if not updates:
            return []
        new = np.stack([self.sample(path) for path in updates]).astype(np.float64)
        old = np.stack([self.sample(path) for path in earlier]) if earlier else np.zeros((0, new.shape[1]), np.float32)
        known = np.concatenate([old.astype(np.float64), new])
        lengths = np.maximum(np.square(known).sum(axis=1), np.finfo(float).tiny)
        products = known @ new.T
        reused = []
        for position, (update, std) in enumerate(zip(new, stds, strict=True)):
            if std == 0 or len(update) < _LEAST_COORDINATES:
                continue
            others = slice(0, len(old) + position)
            if others.stop == 0:
                continue
            left = float((update @ update - products[others, position] ** 2 / lengths[others]).min())
            least = _least_left(len(update), others.stop, mechanism) * std
            if left < least**2:
                reused.append(position)
        return reused


def noise_of_last_step(study: Study, claim: Claim) -> float:
    """Return the standard deviation, per weight, of the noise of the last step of an update with this claim."""
    return last_noise_std(*noise_of_claim(study, claim))


@lru_cache(maxsize=64)
def _most_within(count: int, width: float, mechanism: Mechanism) -> int:
    """Return the most of `count` values that an interval of `width` standard deviations holds by chance.

    Every interval that starts at a value is looked at, so the bound is a union over `count` of them; the value it
    starts at is inside for sure.
    """
    from scipy.stats import binom

    density = 1 / math.sqrt(2 * math.pi) if mechanism == "gaussian" else 1 / math.sqrt(2)
    return 1 + int(binom.isf(FALSE_REFUSAL / count, count - 1, min(1.0, density * width)))


@lru_cache(maxsize=64)
def _least_left(count: int, compared: int, mechanism: Mechanism) -> float:
    """Return a lower bound on the norm of unit noise in `count` coordinates after one direction is taken away.

    Laplace: the sum of squares by Maurer 2003 (as in `update_noise`), less the largest square of one coordinate along
    any fixed direction, bounded by Chernoff at the rate of 1 for scale 1/√2.
    """
    chance = FALSE_REFUSAL / compared
    if mechanism == "gaussian":
        from scipy.stats import chi2

        return math.sqrt(float(chi2.ppf(chance, count - 1)))
    fourth = 6.0  # of a Laplace variable of variance 1
    shortest = count - math.sqrt(2 * count * fourth * math.log(2 / chance))
    along = math.log(4 / chance) + math.log(2)  # P(|v·n| > t) ≤ 2 E exp(v·n) exp(−t), and E exp(v·n) ≤ 1/(1 − 1/2)
    return math.sqrt(max(0.0, shortest - along**2))


@lru_cache(maxsize=4)
def _places(secret: bytes, size: int) -> np.ndarray:
    if size <= SAMPLED:
        return np.arange(size)
    seed = int.from_bytes(hashlib.sha256(b"fedcall compared coordinates\0" + secret).digest(), "big")
    return np.sort(np.random.default_rng(seed).choice(size, SAMPLED, replace=False))
