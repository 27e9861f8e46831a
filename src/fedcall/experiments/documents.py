"""The audit's report as data."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import Trainable

COVERED = (
    "clipping per patient, the scale of the noise, sampling, and division by declared numbers, as the functions that"
    " train a study do them, with the study's unit, mechanism and trainable part"
)
NOT_COVERED = (
    "whether noise is ever used twice (tests of the keys), the ledger, the transport, and whatever these guessers do"
    " not look for; a lower bound proves a leak, the absence of one proves nothing"
)


ATTACKED = (
    "one attacker, who compares losses with those of models trained on other halves of the same simulated people; a"
    " better attacker may do better, up to what epsilon permits"
)


Witness = Literal["guesses", "measurement", "releases", "oracle"]


class MeasurementReport(Document):
    """Noise and contributions of a scene's releases, measured by whoever knows who took part; in clip norms."""

    values: int = Field(description="Released numbers that were looked at.")
    noise_claimed: float
    noise_at_most: float = Field(description="Upper confidence bound on the noise multiplier.")
    contribution_at_least: float = Field(description="Lower confidence bound on what one unit adds; the claim is 1.")


class SceneReport(Document):
    """What one scene of the audit showed."""

    scene: Literal["crowd", "sampled", "alone", "study", "rounds"]
    fault: str | None = Field(description="Planted on purpose; null for the code as it is.")
    claimed_epsilon: float = Field(description="What the accountant claims for the scene.")
    delta: float
    canaries: int
    guesses: int
    correct: int
    epsilon_lower_bound: float = Field(description="Epsilon that the guesses contradict (Steinke et al. 2023).")
    measurement: MeasurementReport | None = Field(description="Only of the crowd.")
    contradicts_claim: bool
    shown_by: tuple[Witness, ...] = Field(
        description="What contradicts the claim. Guesses: the claim, or its curve (Mahloujifar et al. 2024). Releases:"
        " what steps of several rounds released, from outside. Oracle: of the training path, which knows every sum."
    )
    refusal: str | None = Field(
        None, description="Of the scene 'rounds': what the oracle of the training path saw, with its size."
    )
    released: str | None = Field(
        None, description="Of the scene 'rounds': what the releases alone contradict, with the oracle switched off."
    )
    false_alarm: float | None = Field(
        None, description="Of the scene 'rounds': chance that sound training would be refused."
    )


class Interval(Document):
    """A share with its 95 % interval over patients."""

    value: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class MembershipReport(Document):
    """How well members of models trained in one way are told from others."""

    model: Literal["without privacy", "as in the study"]
    epsilon: float | None = Field(description="Per unit, of the attacked models; null without privacy.")
    unit: Literal["patient", "example"]
    delta: float
    steps: int
    accuracy: Interval = Field(description="Share of right decisions; guessing has 0.5.")
    most_accuracy: float | None = Field(description="The most that epsilon permits; null if it bounds no patient.")
    auc: Interval = Field(description="Area under the ROC curve; guessing has 0.5.")
    named: Interval = Field(description="Share of members named while `false_alarms` of the others are, wrongly.")
    most_named: float | None = Field(description="The most that epsilon permits; null if it bounds no patient.")


class AttackReport(Document):
    """A membership-inference attack on simulated patients."""

    models: int
    patients: int
    false_alarms: float
    without_privacy: MembershipReport
    as_in_study: MembershipReport
    sentence: str
    covered: str = ATTACKED


class AuditReport(Document):
    """What `fedcall audit` found."""

    kind: Literal["audit"] = "audit"
    format: Literal[1] = 1
    study: str
    unit: Literal["patient", "example"]
    mechanism: Literal["gaussian", "laplace"]
    clipping: Literal["fixed", "adaptive"]
    terms: PrivacyTerms | None = Field(
        None, description="All privacy terms of the study; null in an audit by an older fedcall, which no report takes."
    )
    rounds: int | None = Field(None, description="Of the study.")
    trainable: Trainable | None = Field(None, description="What the study trains.")
    delta: float = Field(description="Of all claimed and proven epsilons of this audit.")
    claimed_epsilon: float | None = Field(
        description="Of the scene 'study': the study's own noise, sampling and steps; null for a study without noise."
    )
    epsilon_lower_bound: float | None = Field(description="What the scene 'study' proves, at `confidence`.")
    steps: int | None = Field(description="Steps of the scene 'study'.")
    steps_agreed: int = Field(description="Steps of the whole study.")
    confidence: float
    seed: int
    passes: bool
    sentence: str
    scenes: tuple[SceneReport, ...]
    faults: tuple[SceneReport, ...] = Field(description="Empty unless the audit was asked to check itself.")
    membership: AttackReport | None = Field(description="Null unless the attack was asked for.")
    covered: str = COVERED
    not_covered: str = NOT_COVERED
    software: str
