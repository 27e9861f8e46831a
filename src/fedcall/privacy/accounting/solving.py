"""Which noise, how many rounds or which sampling rate a target epsilon allows, the other terms given."""

from fedcall.privacy.accounting.epsilon import compose, study_epsilon
from fedcall.privacy.bisection import greatest, most
from fedcall.privacy.events import round_event
from fedcall.privacy.terms import PrivacyTerms

MOST_ROUNDS = 100_000
LEAST_RATE = 1e-6


def rounds_for(terms: PrivacyTerms, epsilon: float) -> int:
    """Return how many rounds under `terms` cost at most `epsilon` (PLD); at most MOST_ROUNDS.

    Raises
    ------
    ValueError
        If epsilon is not positive.
    """
    _check(epsilon)
    return most(lambda rounds: not study_epsilon(terms, rounds).exceeds(epsilon), MOST_ROUNDS)


def rounds_within_cap(terms: PrivacyTerms, charged: int, limit: int, shares: int = 1) -> int | None:
    """Return how many rounds after `charged` ones a study's own caps allow, at most `limit`; None without a cap.

    A public number: it follows from the terms and the rounds so far. A person's own history may allow fewer.
    `shares` are those of pooled noise: `max_epsilon_if_broken` caps what a share alone costs.
    """
    event = round_event(terms, shares)
    caps = [(event, terms.max_epsilon), (event.alone(), terms.max_epsilon_if_broken)]
    if all(cap is None for _, cap in caps):
        return None

    def fits(more: int) -> bool:
        return not any(compose([(one, charged + more)], terms.delta).exceeds(cap) for one, cap in caps)

    return most(fits, limit)


def sampling_rate_for(terms: PrivacyTerms, rounds: int, epsilon: float) -> float:
    """Return the largest sampling rate (to .1 %, rounded down) with which `rounds` rounds cost at most `epsilon`.

    Raises
    ------
    ValueError
        If epsilon is not positive, or no rate down to 10^-6 is small enough.
    """
    _check(epsilon)

    def fits(rate: float) -> bool:
        return not study_epsilon(terms.model_copy(update={"sampling_rate": rate}), rounds).exceeds(epsilon)

    if fits(1.0):
        return 1.0
    if not fits(LEAST_RATE):
        raise ValueError(f"no sampling rate down to {LEAST_RATE:g} reaches epsilon {epsilon:g}.")
    return greatest(fits, LEAST_RATE, 1.0, 5e-4, relative=True)


def _check(epsilon: float) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive. Found {epsilon}.")
