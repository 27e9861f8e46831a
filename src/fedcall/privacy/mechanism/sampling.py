"""Who takes part in a step: Poisson sampling, exactly as accounted, drawn from the keyed stream.

Every unit's coin comes from a key of its own (study, site, round, step, digest of the inputs and the patient's name).
Coins are therefore independent of each other and of the order of the patients, whoever is there, which is Poisson
sampling (invariant 3). Another cohort has another digest and thus coins that have nothing to do with these: a release
with one patient more never shares its draw with the release without.
"""

from collections.abc import Sequence

import numpy as np

from fedcall.privacy.mechanism.noise import StepContext, Stream, step_key


def sample_patients(secret: bytes, context: StepContext, patients: Sequence[str], rate: float) -> np.ndarray:
    """Draw the patients of one step.

    Parameters
    ----------
    secret : bytes
        The site's secret.
    context : StepContext
        The step.
    patients : sequence of str
        Names, each once.
    rate : float
        Chance of each patient, in (0, 1].

    Returns
    -------
    bool, shape (patients,)
        True for those who take part. All False is a normal outcome.
    """
    if len(set(patients)) != len(patients):
        raise ValueError("a patient is listed twice; a patient is one unit.")
    coins = [_coins(secret, context, patient).integers(1)[0] for patient in patients]
    return _heads(np.array(coins, dtype=np.uint64), rate)


def sample_examples(secret: bytes, context: StepContext, patient: str, examples: int, rate: float) -> np.ndarray:
    """Draw the examples of one patient for one step, when the unit is one example: bool, shape (examples,)."""
    return _heads(_coins(secret, context, patient).integers(examples), rate)


def _heads(coins: np.ndarray, rate: float) -> np.ndarray:
    if not 0 < rate <= 1:
        raise ValueError(f"sampling rate must be in (0, 1]. Found {rate}.")
    if rate == 1:
        return np.ones(len(coins), dtype=bool)
    # Rounded down by at most 2^-64 (and float64's own rounding of the rate), so the chance is never above the rate.
    return coins < np.uint64(int(rate * 2.0**64))


def _coins(secret: bytes, context: StepContext, patient: str) -> Stream:
    return Stream(step_key(secret, context, "sampling", patient.encode()))
