"""The privacy terms of a study: every number the guarantee depends on."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document

Unit = Literal["patient", "example"]
Mechanism = Literal["gaussian", "laplace"]
Clipping = Literal["fixed", "adaptive"]


class Adaptation(Document):
    """How `clipping: adaptive` follows a quantile of the units' norms (Andrew et al. 2021, algorithm 1)."""

    target_quantile: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Share of the units that should be shorter than the clip norm."
    )
    quantile_noise: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.05,
        description="Noise scale of the measured share: its standard deviation (gaussian) or scale b (laplace)."
        " Part of noise_multiplier, which stays what is accounted: the gradients get more noise instead.",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="A step multiplies the clip norm by exp(learning_rate * (target - share))."
    )


class PrivacyTerms(Document):
    """How one round of training is made private, and how much may be spent in total."""

    unit: Unit = Field("patient", description="What one epsilon protects: all rows of a patient, or one example.")
    mechanism: Mechanism = Field("gaussian", description="Noise distribution of a step.")
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        1.0, description="Largest norm of one unit's gradient: L2 for gaussian, L1 for laplace."
    )
    clipping: Clipping = Field(
        "fixed",
        description="fixed: clip_norm holds over the whole study; adaptive: it is where each site starts, and follows"
        " a noisy quantile of the units' norms.",
    )
    adaptation: Adaptation | None = Field(None, description="Of clipping 'adaptive'; left out, its defaults.")
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.2, description="Noise scale divided by clip_norm, on the sum of a step; 0 trains without privacy."
    )
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="Chance of each unit to take part in a step (Poisson)."
    )
    steps_per_round: Annotated[int, Field(ge=1, le=100_000)] = Field(10, description="Noisy steps in a round.")
    rows_per_unit: Annotated[int, Field(ge=1, le=100_000)] = Field(
        64, description="Candidates drawn per sampled patient and step; 1 when the unit is one example."
    )
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(1e-3, description="Must be below 1 / patients of every site.")
    max_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        8.0,
        description="Cap on the cumulative epsilon of a unit, over everything in the site's ledger, for ever;"
        " null for a study without privacy.",
    )
    examples_per_patient: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Declared, public scale of unit 'example': a site counts patients times this many examples.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_adaptation(cls, terms: Any) -> Any:
        if isinstance(terms, dict) and terms.get("clipping") == "adaptive" and terms.get("adaptation") is None:
            return {**terms, "adaptation": {}}
        return terms

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.noise_multiplier == 0 and self.max_epsilon is not None:
            raise ValueError(
                "noise_multiplier 0 has no finite epsilon; raise the noise, or set max_epsilon: null"
                " for a study without privacy"
            )
        if self.unit == "example" and self.examples_per_patient is None:
            raise ValueError("unit 'example' needs examples_per_patient, a declared number")
        if self.unit == "patient" and self.examples_per_patient is not None:
            raise ValueError("examples_per_patient belongs to unit 'example'; leave it out for unit 'patient'")
        if self.clipping == "fixed" and self.adaptation is not None:
            raise ValueError("adaptation belongs to clipping 'adaptive'; leave it out for clipping 'fixed'")
        return self
