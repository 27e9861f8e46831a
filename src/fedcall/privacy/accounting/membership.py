"""What a guarantee lets an attacker learn about membership."""

import math
from typing import Annotated

from pydantic import Field

from fedcall.documents import Document

# Beyond this, e^epsilon is more certainty than any decision needs, and floats lose it in 1 - 1/odds.
LARGEST_LOSS = 30.0


class Membership(Document):
    """The strongest conclusion an attacker with even prior odds can draw about one unit's taking part."""

    odds: Annotated[float, Field(ge=1)] = Field(
        description="Odds, to one, that are passed with a probability of at most delta (the loss's quantile)."
    )
    posterior: Annotated[float, Field(ge=0.5, le=1)] = Field(description="The belief that these odds are.")
    accuracy: Annotated[float, Field(ge=0.5, le=1)] = Field(
        description="Largest share of right guesses when every other guess is a member; all runs counted, by epsilon"
        " and delta."
    )


def membership(epsilon: float | None, delta: float, loss: float | None) -> Membership | None:
    """Bound what a membership attacker with a 50 % prior concludes.

    Parameters
    ----------
    epsilon : float or None
        At `delta`, in nats; None when there is no finite guarantee.
    delta : float
        Of epsilon, and the chance with which odds may be larger than told.
    loss : float or None
        Privacy loss that is passed with a probability of at most `delta` (`epsilon.largest_loss`). Epsilon itself is
        passed more often: delta bounds the expected excess, not its probability.

    Returns
    -------
    Membership or None
        None when there is no finite guarantee.

    Notes
    -----
    Odds: Bayes' rule; the logarithm of the likelihood ratio is the privacy loss. Accuracy: false positives + e^epsilon
    times false negatives >= 1 - delta, and the same with the errors exchanged (Kairouz et al. 2015, theorem 2.1).
    """
    if epsilon is None or loss is None or math.isinf(epsilon) or math.isinf(loss):
        return None
    odds, most = (math.exp(min(value, LARGEST_LOSS)) for value in (loss, epsilon))
    return Membership(odds=odds, posterior=odds / (1 + odds), accuracy=min(1.0, (most + delta) / (1 + most)))
