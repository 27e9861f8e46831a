"""Accuracy against epsilon as data: every number the page shows."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import Clipping, Mechanism, Unit
from fedcall.reporting.evaluation.documents import Difference, Measure
from fedcall.reporting.privacy.documents import Epsilon, Statement, Text
from fedcall.study.terms import Name


class ModelFigures(Document):
    """How good a model is: genotypes of held-out people."""

    snps: Measure = Field(description="F1.")
    indels: Measure = Field(description="F1; without a value where the truth has no indels.")
    rare: Measure = Field(description="Recall of rare SNPs.")


class LinePoint(ModelFigures):
    """One epsilon of one study's terms."""

    epsilon: Epsilon = Field(description="Of the whole training; null without noise.")
    noise_multiplier: float
    chosen: bool = Field(description="The noise is the one that the study's terms name.")
    seeds: int = Field(description="Trainings with unrelated sampling and noise, pooled here.")
    gain: Difference = Field(description="SNP F1 less that of the model training started from.")
    price: Difference = Field(description="SNP F1 less that of the same terms without noise.")


class UtilityCurve(Document):
    """One study's terms with more and less noise."""

    study: Name
    unit: Unit
    mechanism: Mechanism
    clipping: Clipping
    rounds: int
    delta: float
    points: tuple[LinePoint, ...] = Field(description="From the smallest epsilon to none at all.")


class UtilityReport(Document):
    """Accuracy against epsilon, for one or several sets of terms on the same people."""

    kind: Literal["utility"] = "utility"
    format: Literal[1] = 1
    sentence: Text
    patients: dict[Name, Annotated[int, Field(ge=1)]] = Field(description="Training patients by site.")
    held_out: int
    rare_copies: int = Field(description="A variant of at most so many copies in the cohort's truth counts as rare.")
    rare_variants: int = Field(description="Rare SNPs in the truth of the held-out people.")
    start: ModelFigures = Field(description="The model training started from: public-only, or fresh.")
    likelihood: ModelFigures = Field(description="The fresh model: no training at all.")
    lines: tuple[UtilityCurve, ...]
    notes: tuple[Statement, ...]
    software: tuple[Statement, ...]
