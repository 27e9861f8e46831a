"""The privacy terms of a study: every number the guarantee depends on."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document, GrownDocument

Unit = Literal["patient", "example"]
Mechanism = Literal["gaussian", "laplace"]
Clipping = Literal["fixed", "adaptive"]
Noise = Literal["own", "pooled"]
Contribution = Literal["gradient", "delta"]

NEWER_TERMS: dict[str, Any] = {
    "noise": "own",
    "contribution": "gradient",
    "local_steps": None,
    "max_epsilon_if_broken": None,
}
"""What older studies do not have: left out of the canonical form at these values, so that they keep their digests."""

COMMON_DELTA = 1e-5
"""The delta at which every epsilon is told beside the study's own, so that studies can be compared."""

MOST_EXPECTED = 0.1
"""The most that delta times the number of declared units may be, at each site."""


def delta_fault(key: str, delta: float, units: int, whose: str) -> str | None:
    """Return why a delta is too large for a number of declared units, in one line; None if it is small enough.

    Delta bounds, for each unit, the chance that everything about it comes out (at most so much in all): with delta 0.1
    a mechanism may publish every tenth patient. So the number of units for which that may happen, delta times units, is
    held to MOST_EXPECTED.
    """
    if delta * units <= MOST_EXPECTED * (1 + 1e-9):
        return None
    return (
        f"{key} {delta:g} times the {units} {whose} is {delta * units:.3g}, and must be at most {MOST_EXPECTED:g}:"
        f" lower {key} to {_rounded_down(MOST_EXPECTED / units):g} or less"
    )


def _rounded_down(value: float) -> float:
    """Return a number of two digits that is not above `value`."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-9)) * unit:.2g}")


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


class PrivacyTerms(GrownDocument):
    """How one round of training is made private, and how much may be spent in total."""

    NEWER: ClassVar[tuple[str, ...]] = tuple(NEWER_TERMS)

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
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-3, description="Times the declared units (patients, or examples) of every site at most 0.1."
    )
    max_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        8.0,
        description="Cap on the cumulative epsilon of a unit, over everything in the site's ledger, for ever;"
        " null for a study without privacy.",
    )
    examples_per_patient: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Declared, public scale of unit 'example': a site counts patients times this many examples.",
    )
    noise: Noise = Field(
        "own",
        description="own: each site's update carries all the noise; pooled: only the sum of the sites' updates does,"
        " and nobody sees one alone (protection.mode masked).",
    )
    contribution: Contribution = Field(
        "gradient",
        description="What is clipped and summed: a unit's gradient, or a patient's delta after local_steps plain steps"
        " from the global model.",
    )
    local_steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Plain SGD steps of a drawn patient on its own rows; only with contribution 'delta'."
    )
    max_epsilon_if_broken: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Cap, as max_epsilon, on what pooled noise still protects if coordinator and helpers look at single"
        " updates together; null: no such cap.",
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
        self._check_contribution()
        self._check_pooling()
        return self

    def _check_contribution(self) -> None:
        if self.contribution == "gradient":
            if self.local_steps is not None:
                raise ValueError(
                    "local_steps belongs to contribution 'delta'; leave it out for contribution 'gradient'"
                )
            return
        if self.local_steps is None:
            raise ValueError("contribution 'delta' needs local_steps, for example 4")
        if self.unit == "example":
            raise ValueError("contribution 'delta' is a patient's; set unit: patient, or contribution: gradient")
        if self.steps_per_round != 1:
            raise ValueError(
                f"contribution 'delta' makes one noisy sum a round (found steps_per_round {self.steps_per_round}); set"
                " steps_per_round: 1, local_steps says how many plain steps each patient takes before"
            )

    def _check_pooling(self) -> None:
        if self.noise == "own":
            if self.max_epsilon_if_broken is not None:
                raise ValueError(
                    "max_epsilon_if_broken belongs to noise 'pooled'; with noise 'own' max_epsilon protects each update"
                    " alone, leave it out"
                )
            return
        if self.steps_per_round != 1:
            raise ValueError(
                f"noise 'pooled' with {self.steps_per_round} noisy steps in a round is not private: later steps use a"
                " site's own share of the noise before it is pooled; set steps_per_round: 1, or noise: own"
            )
        if self.mechanism != "gaussian":
            raise ValueError(
                "noise 'pooled' needs mechanism 'gaussian': shares of Laplace noise do not add up to Laplace noise"
            )
        if self.clipping != "fixed":
            raise ValueError(
                "noise 'pooled' needs clipping 'fixed': adaptive clipping lets each site follow its own share of the"
                " noise before it is pooled"
            )
        if self.noise_multiplier == 0:
            raise ValueError(
                "noise 'pooled' without noise has nothing to pool; raise noise_multiplier, or set noise: own"
            )
        if self.max_epsilon_if_broken is not None and self.max_epsilon_if_broken < (self.max_epsilon or 0):
            raise ValueError(
                f"max_epsilon_if_broken {self.max_epsilon_if_broken:g} is below max_epsilon {self.max_epsilon:g}: a"
                " share of the noise never protects better than all of it; raise it, or leave it out"
            )
