"""The privacy report as data: every number its page shows. Epsilons are in nats; None means no finite bound."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedcall.documents import Document
from fedcall.privacy.accounting.membership import Membership
from fedcall.privacy.terms import PrivacyTerms, Unit
from fedcall.study.terms import Digest, Name

Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
Text = Annotated[str, Field(min_length=1)]
Outcome = Literal["update", "withheld", "charged without a claim"]
Status = Literal["accepted", "rejected", "quarantined", "withheld", "void", "waiting"]
Colour = Literal["green", "amber", "red"]
CHECKLIST_POINTS = 14


class StudyFacts(Document):
    """Which study the report is about."""

    name: Name
    sha256: Digest
    coordinator: str
    sites: tuple[Name, ...]
    rounds_planned: int


class GroupSpend(Document):
    """What several units lost together, as one group: of what they share, no attacker learns more."""

    units: int
    epsilon_pld: Epsilon
    epsilon_rdp: Epsilon


class Spent(Document):
    """What one unit has lost so far in this study, by the site's own record."""

    sentence: Text = Field(description="The one sentence to read.")
    unit: Unit
    releases: int = Field(description="Rounds charged to the ledger in this study, released or not.")
    epsilon_pld: Epsilon
    epsilon_rdp: Epsilon
    delta: float
    epsilon_common: Epsilon = Field(None, description="The same releases by PLD at delta 10^-5, to compare studies by.")
    max_epsilon: Epsilon
    rounds_that_fit: int | None = Field(
        description="Further rounds of these terms under the cap, by this study's own history; null without a cap."
    )
    rounds_left_in_plan: int
    planned_epsilon_pld: Epsilon = Field(description="Of all planned rounds.")
    planned_epsilon_rdp: Epsilon
    round_epsilon_pld: Epsilon = Field(description="Of one round alone.")
    round_epsilon_rdp: Epsilon
    families: tuple[GroupSpend, ...] = Field(
        (), description="What 2 and 3 relatives who all took part in this study lost together, for comparison."
    )
    membership: Membership | None


class PlannedSpend(Document):
    """What the study's terms cost one unit when this round and all before it are charged."""

    round: int
    epsilon_pld: Epsilon
    epsilon_rdp: Epsilon


class CurvePoint(Document):
    """The guarantee so far at another delta: the same releases, not further spending."""

    delta: float
    epsilon_pld: Epsilon
    epsilon_rdp: Epsilon


class Condition(Document):
    """One sentence of the traffic light's rule, and whether it holds."""

    statement: Text
    holds: bool
    otherwise: Literal["amber", "red"]
    about: Literal["spending", "records"] = Field(
        description="'spending' follows the site's whole ledger in a site's report; only 'records' reach the study's."
    )


class TrafficLight(Document):
    """May this go on? Decided by `conditions` alone."""

    colour: Colour
    verdict: Text
    rule: Text
    conditions: tuple[Condition, ...]


class RoundSpend(Document):
    """One round: charged, claimed, answered."""

    round: int
    outcome: Outcome
    charged: bool = Field(description="Whether the ledger holds a charge for it.")
    epsilon_pld: Epsilon = Field(description="Cumulative over this study's charges up to this round.")
    epsilon_rdp: Epsilon
    planned_epsilon_pld: Epsilon = Field(None, description="If this round and every earlier one were charged.")
    claimed_epsilon: Epsilon
    aggregator_epsilon: Epsilon
    status: Status
    reason: str
    sentence: str


class StudySpend(Document):
    """The charges of one study in a site's ledger."""

    study: Digest
    is_this: bool = Field(description="Whether it is the study of the report.")
    charged: int = Field(
        description="Releases charged (rounds, and the judge); a rerun with the same inputs is the same release."
    )
    unreleased: int = Field(description="Of those, charged but without a stored release: interrupted, and paid for.")
    withheld: int
    epsilon_pld: Epsilon = Field(
        description="Of its most exposed person, in this study alone; null if nothing is bounded."
    )
    epsilon_rdp: Epsilon
    last: str = Field(description="When the last row of the study was written, UTC.")


class ExhaustedInRound(Document):
    """One round in which some people contributed nothing, because their budget was spent."""

    round: int
    people: int


class FamilySpend(Document):
    """Close relatives among the training patients, by their genotypes, and what was taken from them together."""

    people: int
    epsilon_pld: Epsilon = Field(description="Of the family as one, by this study's charged rounds, at its delta.")
    studies: int = Field(1, description="Studies of the ledger that charged one of them.")
    epsilon_over_ledger: Epsilon = Field(
        None,
        description="Of the family as one over all these studies, at the same delta; by RDP if there are several.",
    )
    within_cap: bool | None = Field(description="Whether that is within the study's cap for one; null without a cap.")
    within_limit: bool | None = Field(
        description="Whether the family's epsilon at the delta of the hospital's own limit is within it; null without."
    )


class LedgerSpend(Document):
    """What stays at the site: the spend over every study in its ledger, and who has spent the budget.

    It depends on which patients took part in which study, so it is for the site's eyes only.
    """

    studies: int
    charges: int = Field(description="Charged releases over all studies: rounds, and judges.")
    epsilon_pld: Epsilon = Field(
        description="Of the most exposed person, at the delta below, by the accountant that `accountant` names."
    )
    epsilon_rdp: Epsilon
    accountant: Literal["PLD", "RDP filter"] = Field(
        "PLD", description="What bounds the most exposed person: PLD in one study, an RDP filter over several."
    )
    epsilon_common: Epsilon = Field(None, description="The most exposed person's at delta 10^-5.")
    delta: float
    unit: Unit
    head: str = Field(description="Hash of the ledger's last row, to compare with `fedcall ledger verify`.")
    limit: Epsilon = Field(None, description="The hospital's own limit on everybody's epsilon; null without one.")
    limit_delta: float | None = Field(None, description="Delta of that limit.")
    exhausted: tuple[ExhaustedInRound, ...] = Field(
        (), description="Charged rounds of this study in which somebody's budget was spent."
    )
    people_who_fit: int | None = Field(
        None, description="People of this study who can afford one more round of it, under every limit that holds."
    )
    people: int | None = Field(
        None, description="People whom this study's rounds have charged, or all if they charged nobody yet."
    )
    judging_people: int | None = Field(
        None, description="Held-out people whom this study's judge has charged; null before it has."
    )
    judging_exhausted: int | None = Field(
        None, description="Held-out people whose budget was spent, and who counted as no difference."
    )
    families: tuple[FamilySpend, ...] = Field(
        (), description="Relatives that were found by comparing people; of those that were not, nothing is known."
    )
    by_study: tuple[StudySpend, ...] = Field((), description="In the order of their first rows.")


class Statement(Document):
    """A topic and what is to be said about it."""

    topic: Text
    statement: Text


class ChecklistItem(Document):
    """One point of what an honest report states (Ponomareva et al. 2023; NIST SP 800-226, 2025)."""

    number: Annotated[int, Field(ge=1, le=CHECKLIST_POINTS)]
    point: Text
    statement: Text


class AuditScene(Document):
    """One scene of the audit: what the accountant claims for it, and what guesses proved."""

    scene: Text
    claimed_epsilon: Epsilon = Field(description="Upper bound for this scene's numbers, by the accountant.")
    delta: float
    epsilon_lower_bound: Epsilon
    guesses: int
    correct: int
    contradicts_claim: bool


class Audit(Document):
    """What `fedcall audit` proved about the code that trains, with made-up patients."""

    sentence: Text
    verdict: Text
    confidence: float = Field(description="Of the whole audit.")
    scenes: tuple[AuditScene, ...]
    faults_planted: int
    faults_caught: int


class ClipRound(Document):
    """How adaptive clipping moved a site's clip norm in one round; released with the update, and private as it is."""

    round: int
    start: float
    end: float = Field(description="Where the next round starts.")
    smallest: float
    largest: float
    norms: tuple[float, ...] = Field(description="Of every step and, last, the one the next round starts from.")


class AdaptiveClipping(Document):
    """What adaptive clipping cost and did at one site."""

    target_quantile: float = Field(description="Share of the units that should be shorter than the clip norm.")
    quantile_noise: float = Field(description="Noise of the share measured in a step.")
    budget_share: float = Field(description="Part of the privacy budget that measuring the share takes.")
    sum_multiplier: float = Field(description="Noise on the sum / clip norm: noise_multiplier, and what pays for that.")
    rounds: tuple[ClipRound, ...]


class SiteClipping(Document):
    """Adaptive clipping at one site of a study."""

    site: Name
    budget_share: float
    sum_multiplier: float
    rounds: int = Field(description="Rounds whose claim tells of clipping.")
    start: float | None = Field(description="Clip norm of the first step; null before the first round.")
    end: float | None


class ClosedEarly(Document):
    """A study that its coordinator ended before its last round, by the aggregator's log."""

    round: int = Field(description="The last round that counts.")
    reason: str
    operator: str


class PrivacyReport(Document):
    """The privacy-budget report of one site in one study."""

    kind: Literal["privacy-site"] = "privacy-site"
    format: Literal[1] = 1
    study: StudyFacts
    site: Name
    patients_declared: int
    units_declared: int
    spent: Spent
    closed: ClosedEarly | None = Field(None, description="null: not closed before its last round, or no log was given.")
    light: TrafficLight
    rounds: tuple[RoundSpend, ...]
    planned: tuple[PlannedSpend, ...] = Field((), description="The plan, at a dozen rounds at most.")
    curve: tuple[CurvePoint, ...]
    terms: PrivacyTerms
    learning_rate: float
    iterate_averaging: float
    site_only: LedgerSpend | None = Field(description="Left out of a report made with --shareable.")
    adaptive_clipping: AdaptiveClipping | None = Field(None, description="null for fixed clipping.")
    audit: Audit | None = Field(None, description="null if no audit was given.")
    trust: tuple[Statement, ...]
    not_covered: tuple[Statement, ...]
    checklist: tuple[ChecklistItem, ...]
    commands: tuple[Statement, ...] = Field(description="How to check this report: what, and the command.")
    software: tuple[Statement, ...]

    @model_validator(mode="after")
    def _complete(self) -> "PrivacyReport":
        numbers = [item.number for item in self.checklist]
        if numbers != list(range(1, CHECKLIST_POINTS + 1)):
            raise ValueError(f"the checklist has points {numbers}, 1 to {CHECKLIST_POINTS} expected")
        return self


class SiteSpend(Document):
    """One site's line in the study's report."""

    site: Name
    patients_declared: int
    releases: int
    epsilon_pld: Epsilon
    epsilon_rdp: Epsilon
    accepted: int
    withheld: int
    refused: int = Field(description="Rejected and quarantined updates.")
    waiting: int
    light: Colour


class Refusal(Document):
    """One round without an accepted update."""

    site: Name
    round: int
    status: Status
    reason: Text
    sentence: str


class StudyPrivacyReport(Document):
    """The privacy-budget report of a study, from the reports of its sites."""

    kind: Literal["privacy-study"] = "privacy-study"
    format: Literal[1] = 1
    study: StudyFacts
    sentence: Text
    unit: Unit
    delta: float
    max_epsilon: Epsilon
    largest_epsilon_pld: Epsilon
    largest_epsilon_rdp: Epsilon
    largest_epsilon_common: Epsilon = Field(None, description="By PLD at delta 10^-5.")
    membership: Membership | None
    light: TrafficLight
    rounds_done: int
    updates: int
    refused: int
    withheld: int
    missing: tuple[Name, ...] = Field(description="Sites of the study whose report was not given.")
    sites: tuple[SiteSpend, ...]
    refusals: tuple[Refusal, ...]
    terms: PrivacyTerms
    adaptive_clipping: tuple[SiteClipping, ...] = Field((), description="Empty for fixed clipping.")
    audit: Audit | None = Field(None, description="null if no audit was given.")
    trust: tuple[Statement, ...]
    not_covered: tuple[Statement, ...]
    checklist: tuple[ChecklistItem, ...]
    commands: tuple[Statement, ...]
    software: tuple[Statement, ...]

    @model_validator(mode="after")
    def _complete(self) -> "StudyPrivacyReport":
        numbers = [item.number for item in self.checklist]
        if numbers != list(range(1, CHECKLIST_POINTS + 1)):
            raise ValueError(f"the checklist has points {numbers}, 1 to {CHECKLIST_POINTS} expected")
        return self
