"""What one round of training does to a patient, as a value: the ledger stores these, never epsilons."""

from typing import Annotated, Self

from pydantic import Field, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.privacy.terms import Clipping, Mechanism, PrivacyTerms, Unit


class Event(Document):
    """The privacy-relevant facts of one round: `steps` noisy sums over Poisson-sampled, clipped units."""

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


def round_event(terms: PrivacyTerms) -> Event:
    """Return what one round under `terms` does.

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
    )
