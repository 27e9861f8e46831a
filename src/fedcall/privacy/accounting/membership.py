"""What an epsilon lets an attacker learn about membership."""

import math
from typing import Annotated

from pydantic import Field

from fedcall.documents import Document

# Beyond this, e^epsilon is more certainty than any decision needs, and floats lose it in 1 - 1/odds.
LARGEST_EPSILON = 30.0


class Membership(Document):
    """The strongest conclusion an attacker with even prior odds can draw about one unit's taking part."""

    odds: Annotated[float, Field(ge=1)] = Field(description="Largest posterior odds, to one.")
    posterior: Annotated[float, Field(ge=0.5, le=1)] = Field(description="Largest posterior belief.")
    accuracy: Annotated[float, Field(ge=0.5, le=1)] = Field(
        description="Largest share of right guesses when every other guess is a member, failure probability included."
    )


def membership(epsilon: float | None, delta: float) -> Membership | None:
    """Bound what a membership attacker with a 50 % prior concludes from an (epsilon, delta) guarantee.

    Parameters
    ----------
    epsilon : float or None
        In nats; None when there is no finite guarantee.
    delta : float
        Chance with which the bound on the belief may fail.

    Returns
    -------
    Membership or None
        None when there is no finite guarantee.

    Notes
    -----
    Odds: Bayes' rule with a likelihood ratio of at most e^epsilon, outside events of chance delta (Dwork and Roth
    2014, section 2.3; Kasiviswanathan and Smith 2014). Accuracy: false positives + e^epsilon * false negatives
    >= 1 - delta, and the same with the errors exchanged (Kairouz et al. 2015, theorem 2.1).
    """
    if epsilon is None or math.isinf(epsilon):
        return None
    odds = math.exp(min(epsilon, LARGEST_EPSILON))
    accuracy = min(1.0, (odds + delta) / (1 + odds))
    return Membership(odds=odds, posterior=odds / (1 + odds), accuracy=accuracy)
