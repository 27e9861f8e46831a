"""The comparison of callers as data: every number its page shows."""

from typing import Literal

from pydantic import Field

from fedcall.callers.agreement import Disagreement, Pattern
from fedcall.callers.software import CallerSoftware
from fedcall.documents import Document
from fedcall.reporting.evaluation.documents import Accuracy, Difference, Type
from fedcall.reporting.privacy.documents import Statement


class NamedAccuracy(Accuracy):
    """One file's accuracy for one type of variant."""

    caller: str


class NamedDifference(Document):
    """By how much the first file is better than another: its figure less the other's, in pairs."""

    caller: str
    type: Type
    precision: Difference
    recall: Difference
    f1: Difference


class LeftOut(Document):
    """Alleles of a file that could not be compared."""

    caller: str
    reason: str
    count: int


class ComparisonReport(Document):
    """Calls of one patient by several callers against one truth."""

    kind: Literal["comparison"] = "comparison"
    format: Literal[1] = 1
    sentence: str
    truth: str = Field(description="Name of the file.")
    regions_bases: int
    label_types: Literal["all", "snps"]
    callers: tuple[CallerSoftware, ...] = Field(description="In the order they were given; the first is compared.")
    figures: tuple[NamedAccuracy, ...]
    differences: tuple[NamedDifference, ...]
    patterns: tuple[Pattern, ...]
    disagreements_in_all: int
    disagreements: tuple[Disagreement, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[Statement, ...]
