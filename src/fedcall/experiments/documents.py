"""The audit's report as data."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document

COVERED = (
    "clipping per patient, the scale of the noise, sampling, and division by declared numbers, as the functions that"
    " train a study do them, with the study's unit, mechanism and trainable part"
)
NOT_COVERED = (
    "whether noise is ever used twice (tests of the keys), the ledger, the transport, the study's own noise and number"
    " of rounds (their epsilon is the accountant's), and whatever these guessers do not look for; a lower bound proves"
    " a leak, the absence of one proves nothing"
)


class SceneReport(Document):
    """What one scene of the audit showed."""

    scene: Literal["crowd", "sampled", "alone"]
    fault: str | None = Field(description="Planted on purpose; null for the code as it is.")
    claimed_epsilon: float = Field(description="What the accountant claims for the scene.")
    delta: float
    canaries: int
    guesses: int
    correct: int
    epsilon_lower_bound: float = Field(description="Epsilon that the guesses contradict (Steinke et al. 2023).")
    contradicts_claim: bool = Field(description="The guesses contradict the claim (or its curve, Mahloujifar 2024).")


class Interval(Document):
    """A share with its 95 % interval over patients."""

    value: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class AuditReport(Document):
    """What `fedcall audit` found."""

    kind: Literal["audit"] = "audit"
    format: Literal[1] = 1
    study: str
    unit: Literal["patient", "example"]
    mechanism: Literal["gaussian", "laplace"]
    clipping: Literal["fixed", "adaptive"]
    confidence: float
    seed: int
    passes: bool
    sentence: str
    scenes: tuple[SceneReport, ...]
    faults: tuple[SceneReport, ...] = Field(description="Empty unless the audit was asked to check itself.")
    covered: str = COVERED
    not_covered: str = NOT_COVERED
