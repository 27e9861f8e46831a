"""Noise that several sites add together, on the grid of opened sums (docs/pooled-noise.md).

In masked mode a site's vector is the exact sum of its clipped contributions plus a share of the noise, in whole numbers
of `clip norm / 2^16`, and only the sum over sites is opened, modulo 2^32.
"""

import math
from dataclasses import dataclass

from fedcall.privacy.mechanism.clipping import GRID

SMOOTHING = 4
"""Grid points of a Gaussian that, added to a real one, makes it a discrete one but for a factor of 1 ± 10^-136."""

SUM_GRID = 2**16
"""Grid points per clip norm of vectors that are added over sites, so that sums fit into 32 bits."""

CAPACITY = 2**31 / SUM_GRID
"""Clip norms, up or down, that a coordinate of an opened sum can hold."""

NOISE_TAIL = 14.0
"""Standard deviations of noise that a coordinate must have room for: more come with a chance of 2 exp(-98) < 10^-42."""


@dataclass(frozen=True)
class Share:
    """What a site adds to its own sum, and on which grid.

    Attributes
    ----------
    noise_multiplier : noise scale over the clip norm
    grid : points per clip norm
    """

    noise_multiplier: float
    grid: int = GRID


@dataclass(frozen=True)
class Pool:
    """Who makes the noise of a sum: `shares` sites at least, besides the tolerated ones, which may make none."""

    shares: int
    tolerated_sites: int


def share_multiplier(noise_multiplier: float, shares: int) -> float:
    """Return the noise scale, over the clip norm, of one of `shares` equal shares of the noise.

    Their sum is a discrete Gaussian of variance z² G² + 4² grid points, which costs no more than real noise of exactly
    z = `noise_multiplier` clip norms (G = 2^16; `accounting.losses.accounted_multiplier`).
    """
    if noise_multiplier == 0:
        return 0.0
    return math.sqrt((noise_multiplier**2 + (SMOOTHING / SUM_GRID) ** 2) / shares)


LEAST_NOISE = 1 / 16
"""Noise multiplier of a sum, at least: even a share of 1/65,536 of its variance then has 16 grid points, and the sum of
shares is a discrete Gaussian but for 10^-1000 (`accounting.pooling`)."""


def check_capacity(units: int, noise_multiplier: float, noises: float) -> None:
    """Refuse a sum that might not fit into 32 bits.

    Parameters
    ----------
    units : int
        Declared units of all sites together: each moves a coordinate by at most one clip norm.
    noise_multiplier : float
    noises : float
        Variance of the noise of all sites' vectors together, in those of the agreed noise.

    Raises
    ------
    ValueError
        Also for noise so small that the grid would show through.
    """
    if 0 < noise_multiplier < LEAST_NOISE:
        raise ValueError(
            f"noise_multiplier {noise_multiplier:g} is too small for the grid of sums over sites (2^16 points per clip"
            f" norm); raise it to {LEAST_NOISE:g} or more, or set it to 0"
        )
    needed = units + NOISE_TAIL * share_multiplier(noise_multiplier, 1) * math.sqrt(noises)
    if needed >= CAPACITY:
        raise ValueError(
            f"a sum over {units} units with noise_multiplier {noise_multiplier:g} may need {needed:.6g} clip norms, and"
            f" a number of 32 bits holds {CAPACITY:g}; agree on fewer patients or less noise, or on protection.mode:"
            " plain"
        )
