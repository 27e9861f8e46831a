"""The dossier as data: the budget, every release with its making and its answer, and the graph of the rules."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.privacy.documents import (
    ChecklistItem,
    PrivacyReport,
    Statement,
    StudyFacts,
    StudyPrivacyReport,
    TrafficLight,
)
from fedcall.study.claims import ReasonCode
from fedcall.study.terms import Digest, Name


class Input(Document):
    """What a job read that another job of the workflow had made."""

    rule: str = Field(description="The rule that made it.")
    file: str | None = Field(description="Its path; null for data of patients, whose file names stay home.")
    sha256: Digest | None = Field(
        description="Of the file as it is; null for data of patients, for which the site's ledger holds a keyed digest."
    )


class Making(Document):
    """How the job ran that made a release."""

    rule: str
    software: str = Field(description="As the site signed it.")
    environment: str = Field(description="Conda environment or container of the job, if any.")
    started: str = Field(description="Begin of the job, UTC, ISO 8601.")
    seconds: Annotated[float, Field(ge=0)]
    inputs: tuple[Input, ...]


class ReportedRound(Document):
    """One round of one site: claimed, made, answered. Signatures were checked against the study."""

    site: Name
    round: int
    outcome: Literal["update", "withheld"]
    claimed_epsilon: float | None
    update: Digest | None = Field(description="Content digest of the update; null when withheld.")
    base: Digest
    claim: Digest
    making: Making
    status: Literal["accepted", "rejected", "quarantined", "withheld", "waiting"]
    reason: ReasonCode | None = Field(description="Null while no receipt has come.")
    sentence: str
    aggregator_epsilon: float | None


class RuleRun(Document):
    """The jobs of one rule, by Snakemake's records."""

    rule: str
    level: int = Field(description="Depth in the graph, from the rules that need nothing.")
    jobs: int
    seconds: float = Field(description="Of all jobs together.")


class Edge(Document):
    """Some job of rule `after` reads what a job of rule `before` made."""

    before: str
    after: str


class Dossier(Document):
    """Everything a data-protection officer files about a study that has run."""

    kind: Literal["privacy-dossier"] = "privacy-dossier"
    format: Literal[1] = 1
    study: StudyFacts
    sentence: str
    light: TrafficLight
    terms: PrivacyTerms
    budget: tuple[PrivacyReport, ...] = Field(description="The reports of the sites, whole.")
    budget_of_study: StudyPrivacyReport | None = Field(description="Null at a hospital, which sees its own ledger.")
    releases: tuple[ReportedRound, ...]
    rules: tuple[RuleRun, ...]
    edges: tuple[Edge, ...]
    trust: tuple[Statement, ...]
    not_covered: tuple[Statement, ...]
    checklist: tuple[ChecklistItem, ...]
    commands: tuple[Statement, ...]
    software: tuple[Statement, ...]
