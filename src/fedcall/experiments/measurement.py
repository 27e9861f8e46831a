"""The audit's measurement: how much noise is in the releases, and how much one unit contributes to them.

Guessers need many canaries to prove a leak. Whoever made the canaries and tossed the coins knows every sum before the
noise, and can measure the two numbers that the guarantee rests on. This is an engineer's test and no attack; it trusts
that noise has the agreed shape, and that canaries' gradients are longer than the clip norm.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, gamma, norm

from fedcall.privacy.terms import Mechanism


@dataclass(frozen=True)
class Measurement:
    """What was measured, with the confidence that was asked for; both in clip norms.

    Attributes
    ----------
    values : numbers that were looked at
    noise_claimed, noise_at_most : noise multiplier of a step's sum: the claimed one, and an upper bound on the real
    contribution_at_least : lower bound on what one unit adds to a step's sum; the claim is 1
    """

    values: int
    noise_claimed: float
    noise_at_most: float
    contribution_at_least: float

    @property
    def contradicts_claim(self) -> bool:
        """Whether noise is too small or contributions are too long."""
        return self.noise_at_most < self.noise_claimed or self.contribution_at_least > 1


def measure(
    seen: np.ndarray, sums: np.ndarray, mechanism: Mechanism, noise_multiplier: float, confidence: float
) -> Measurement:
    """Compare released sums of one step with the sums they should hide.

    Parameters
    ----------
    seen : float64, shape (sites, values)
        Released sums, in clip norms.
    sums : float64, shape (sites, values)
        Sums of the clipped units that took part, in clip norms.
    mechanism : "gaussian" or "laplace"
    noise_multiplier : float
        Claimed, of the sums.
    confidence : float
        Chance, at least, that a sound implementation contradicts neither of its claims.

    Returns
    -------
    Measurement

    Notes
    -----
    Contribution: least squares of `seen` on `sums`, a normal variable of mean 1 (laplace: nearly). Noise: what is
    left is chi-square (gaussian), or its absolute values add up to a gamma variable (laplace).
    """
    error = (1 - confidence) / 2
    strength = float((sums**2).sum())
    contribution = float((seen * sums).sum()) / strength
    deviation = noise_multiplier * (np.sqrt(2) if mechanism == "laplace" else 1.0) / np.sqrt(strength)
    left = seen - contribution * sums
    if mechanism == "gaussian":
        noise = np.sqrt(float((left**2).sum()) / chi2.ppf(error, left.size - 1))
    else:
        noise = float(np.abs(left).sum()) / gamma.ppf(error, left.size)
    return Measurement(
        values=left.size,
        noise_claimed=noise_multiplier,
        noise_at_most=float(noise),
        contribution_at_least=float(contribution - norm.isf(error) * deviation),
    )
