"""What one round of training does to a patient, as a value: the ledger stores these, never epsilons."""

import math
from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationError

from fedcall.documents import GrownDocument, describe
from fedcall.errors import FedcallError
from fedcall.privacy.terms import Clipping, Mechanism, PrivacyTerms, Unit


class Event(GrownDocument):
    """The privacy-relevant facts of one round: `steps` noisy sums over Poisson-sampled, clipped units."""

    NEWER: ClassVar[tuple[str, ...]] = ("shares",)

    unit: Unit
    mechanism: Mechanism
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="Gaussian: standard deviation; Laplace: scale b. Both divided by clip_norm."
    )
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1)]
    clipping: Clipping = Field(
        "fixed", description="adaptive: noise_multiplier counts sum and quantile together, as one mechanism."
    )
    shares: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Equal shares, of as many sites, that make the noise of an opened sum; null: all is the site's.",
    )

    def alone(self) -> Self:
        """Return what the site's own share of the noise does, where somebody sees its update before it is added."""
        if self.shares is None:
            return self
        return self.model_copy(
            update={"noise_multiplier": self.noise_multiplier / math.sqrt(self.shares), "shares": None}
        )

    def to_json(self) -> str:
        """Return the canonical JSON of this event."""
        return self.canonical().decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the event inside `text`, or raise FedcallError that says what is wrong with it."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise FedcallError(f"privacy event: {describe(error)}") from None


def round_event(terms: PrivacyTerms, shares: int = 1) -> Event:
    """Return what one round under `terms` does; `shares` is how many sites' noise is counted on in every opened sum.

    Examples
    --------
    >>> event = round_event(PrivacyTerms(noise_multiplier=4.2, steps_per_round=20))
    >>> event.unit, event.noise_multiplier, event.steps
    ('patient', 4.2, 20)
    """
    return Event(
        unit=terms.unit,
        mechanism=terms.mechanism,
        noise_multiplier=terms.noise_multiplier,
        sampling_rate=terms.sampling_rate,
        steps=terms.steps_per_round,
        clipping=terms.clipping,
        shares=shares if shares > 1 else None,
    )
