"""One point of the curve of accuracy against epsilon, as data: counts, so that intervals can be made of many points."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import Clipping, Mechanism, Unit
from fedcall.study.terms import Digest, Name

Counts = tuple[int, int, int, int]
"""Variants in the truth, found among them, called, right among the called (by genotype)."""


class PersonScore(Document):
    """One model on one held-out person, compared with the truth as `fedcall concordance` does."""

    patient: Name
    regions_digest: Digest
    snps: tuple[Counts, ...] = Field(description="By piece of the regions.")
    indels: tuple[Counts, ...] | None = Field(description="null where the truth has no indel labels.")
    rare: tuple[int, int] = Field(description="Rare SNPs in the truth, and found among them.")


class UtilityPoint(Document):
    """One training of one set of terms at one epsilon, and how good the model is."""

    kind: Literal["utility-point"] = "utility-point"
    format: Literal[1] = 1
    study: Name
    unit: Unit
    mechanism: Mechanism
    clipping: Clipping
    rounds: int
    delta: float
    noise_multiplier: float
    epsilon: float | None = Field(description="Of the whole training, by PLD; null without noise.")
    asked: float | None = Field(description="The epsilon that was asked for; null for none, or for the study's own.")
    is_own: bool = Field(description="Trained with the noise that the study's terms name.")
    seed: int
    patients: dict[Name, Annotated[int, Field(ge=1)]] = Field(description="Training patients by site.")
    rare_copies: int = Field(description="A variant of at most so many copies in the cohort's truth counts as rare.")
    trained: tuple[PersonScore, ...]
    start: tuple[PersonScore, ...] = Field(description="The model training started from: public-only, or fresh.")
    likelihood: tuple[PersonScore, ...] = Field(description="The fresh model: no training at all.")
