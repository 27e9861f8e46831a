"""The evaluation report as data: every number its page shows."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.callers.agreement import Disagreement, Pattern
from fedcall.callers.software import CallerSoftware
from fedcall.documents import Document
from fedcall.genomics.concordance.worst_errors import CallError
from fedcall.reporting.privacy.documents import Statement, StudyFacts, Text
from fedcall.study.terms import Name

Caller = Literal["final", "initial", "likelihood", "bcftools", "freebayes", "gatk", "deepvariant"]
Share = Annotated[float, Field(ge=0, le=1)] | None
Type = Literal["snps", "indels", "all"]
CALLERS: tuple[Caller, ...] = ("final", "initial", "likelihood", "bcftools", "freebayes", "gatk", "deepvariant")
MODELS: tuple[Caller, ...] = ("final", "initial", "likelihood")
"""Callers of this package; the others are other people's."""


class Measure(Document):
    """A pooled figure with its 95 % bootstrap interval; None where nothing can be said."""

    value: Share
    low: Share
    high: Share


class Accuracy(Document):
    """Accuracy of calls for one type of variant, by genotype."""

    type: Type
    precision: Measure
    recall: Measure
    f1: Measure
    truth: int = Field(description="Variants in the truth.")
    calls: int
    genotype_errors: int = Field(description="Calls of a true allele with the wrong number of copies.")


class CallerFigures(Accuracy):
    """One caller's accuracy for one type of variant."""

    caller: Caller


class Scope(Document):
    """Figures of one site's held-out patients, or of all."""

    site: Name | None = Field(description="null: all sites together; 'public': held-out people whose data is public.")
    patients: int
    figures: tuple[CallerFigures, ...]


class StratumCell(Document):
    """One caller in one stratum."""

    caller: Caller
    precision: Share
    recall: Share
    f1: Share


class StratumRow(Document):
    """One group of variants, and which figure can be told: groups that only calls have (depth, quality) have precision,
    groups that only true variants have (allele count, panel frequency) recall.
    """

    type: Literal["snps", "indels"]
    stratum: str
    value: str
    truth: int | None = Field(description="True variants in the group; null where only calls belong to it.")
    calls: int | None = Field(
        None, description="Calls of the final model in the group; null where only true variants belong to it."
    )
    figure: Literal["f1", "precision", "recall"]
    cells: tuple[StratumCell, ...]


class CalibrationPoint(Document):
    """Calls of one caller with a stated genotype quality in [low, high)."""

    caller: Caller
    low: int
    high: int
    calls: int
    errors: int
    measured: float = Field(description="Phred of the measured error, (errors + 1/2) / (calls + 1).")
    measured_low: float = Field(description="Lower end of its 95 % interval, Phred (Clopper and Pearson 1934).")
    measured_high: float | None = Field(description="Upper end, Phred; null without an error, when there is none.")


class Difference(Document):
    """How much better one caller is than another on the same patients, with its paired 95 % interval."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class CallerDifference(Document):
    """By how much the final model is better than another caller on the same patients: its figure less the other's."""

    caller: Caller
    type: Type
    precision: Difference
    recall: Difference
    f1: Difference


class CallerCost(Document):
    """What calling the held-out patients cost, as Snakemake measured the jobs."""

    caller: Caller
    cpu_seconds: float | None = Field(description="Processor time of all jobs; null: too short to be measured.")
    cpu_seconds_per_mb: float | None = Field(description="Per million bases of the patients' regions.")
    memory_mb: float | None = Field(description="Largest resident memory of a job, MB.")
    jobs: int
    patients: int


class PatientDisagreement(Document):
    """One allele on which callers disagree."""

    site: Name
    patient: Name
    disagreement: Disagreement


class JudgeFigures(Document):
    """What the sites' held-out patients say of the final model, from the signed verdict."""

    patients: int = Field(description="Held-out patients of the sites that judged, as declared.")
    sites: int
    gain: float | None = Field(description="Mean clipped difference of F1; null if no site judged.")
    low: float | None = Field(description="Of the 95 % interval, which counts the noise and the sampling of patients.")
    high: float | None
    noise_std: float | None = Field(description="Standard deviation of the noise in the gain.")
    clip: float
    epsilon: float = Field(description="Spent by each held-out patient, once.")
    delta: float
    mechanism: Literal["laplace", "gaussian"]
    sentence: Text


Advice = Literal["use", "no-difference", "worse", "cannot-tell"]


class Recommendation(Document):
    """Whether the jointly trained model may ship, judged on people, and regions, that no model was trained on."""

    decision: Advice = Field(
        description="use: a gain whose interval excludes zero; no-difference and worse keep the first model;"
        " cannot-tell: too few people, or no regions that nobody trained on."
    )
    passes: bool | None = Field(description="Whether the decision is 'use'; null: cannot tell.")
    recommended: Caller | None
    model: Literal["final.safetensors", "initial.safetensors"] | None = Field(
        description="File to use; null: cannot tell, so nothing speaks for leaving the first model."
    )
    basis: Literal["held-out patients", "public people"] = Field(
        description="Held-out patients: the private judge of all sites."
    )
    people: int = Field(description="People it was judged on.")
    on_unseen_regions: bool = Field(description="Whether they were scored on regions that nobody trained on, only.")
    regions_bases: int | None = Field(description="Length of these regions, summed over people; null: not told.")
    rule: Text
    headline: Text
    verdict: Text = Field(description="The headline, and what it rests on.")
    final_f1: Share
    initial_f1: Share
    difference: Difference = Field(description="F1 of the final less that of the initial model, on the same people.")


class PatientError(Document):
    """One error of the final model's calls, with the reads around it."""

    site: Name
    patient: Name
    error: CallError


class EvaluationReport(Document):
    """Calls of held-out patients against truth, caller by caller."""

    kind: Literal["evaluation"] = "evaluation"
    format: Literal[1] = 1
    study: StudyFacts
    sentence: Text = Field(description="The verdict, then the figures on patients.")
    on_patients: str = Field("", description="The figures on held-out patients alone.")
    gate: Recommendation
    judge: JudgeFigures | None = Field(None, description="null: the study has no private judge.")
    initial_is_fresh: bool = Field(
        description="The initial model calls as the likelihood does: nothing public trained."
    )
    noise_multiplier: float
    patients: int
    label_types: Literal["all", "snps"]
    callers: tuple[Caller, ...]
    panel: str | None = Field(
        None, description="SHA-256 of the panel of public allele frequencies all but bcftools called with; null: none."
    )
    software_of_callers: tuple[CallerSoftware, ...] = Field(
        (), description="Program and version of each caller, by the header of its calls."
    )
    differences: tuple[CallerDifference, ...] = Field(
        (), description="Of the final model and each other caller, over all patients of the first scope."
    )
    costs: tuple[CallerCost, ...] = Field((), description="Empty: Snakemake's benchmark files were not given.")
    patterns: tuple[Pattern, ...] = Field((), description="Which callers have how many alleles together.")
    disagreements_in_all: int | None = Field(
        None, description="Alleles that some of the callers have and others have not; null: not looked for."
    )
    disagreements: tuple[PatientDisagreement, ...] = Field((), description="The worst of them, worst first.")
    scopes: tuple[Scope, ...] = Field(description="All sites first, then site by site.")
    strata: tuple[StratumRow, ...]
    calibration: tuple[CalibrationPoint, ...]
    errors_in_all: int | None = Field(description="Wrong alleles in the final model's calls; null: not looked for.")
    errors: tuple[PatientError, ...] = Field(description="The worst of them over all patients, worst first.")
    notes: tuple[Statement, ...]
    software: tuple[Statement, ...]
    inputs: str | None = Field(None, description="Digest of the concordances it was made from, keyed; null: no key.")


def caller_name(caller: str, fresh: bool) -> str:
    """Return a caller's name as people read it; `fresh`: the initial model was not trained on public data."""
    initial = "initial (untrained)" if fresh else "public-only"
    names = {"final": "jointly trained", "initial": initial, "gatk": "GATK", "deepvariant": "DeepVariant"}
    return names.get(caller, caller)
