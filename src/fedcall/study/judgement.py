"""The private judge's documents: what a site releases about its held-out patients, and the list of all of them."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document
from fedcall.privacy.events import Event
from fedcall.privacy.mechanism.bounded_sum import sum_event
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.terms import Digest, Name, Study


class Judgement(Document):
    """A site's signed comparison of the final with the first model: one noisy number, and public ones."""

    study: Digest
    site: Name
    outcome: Literal["released", "withheld"]
    initial: Digest = Field(description="Content digest of the first global model.")
    final: Digest = Field(description="Content digest of the final model.")
    people: Annotated[int, Field(ge=1)] = Field(
        description="Held-out patients the study declares for the site; never how many there were."
    )
    total: int | None = Field(
        description="Sum of the held-out patients' clipped differences of F1 with its noise, in units of clip / 2^24;"
        " null when withheld."
    )
    evaluation: EvaluationTerms = Field(description="The terms that were really used.")
    ledger_head: Digest = Field(description="Digest of the row of the site's ledger that decided this release.")
    software: str


class JudgedSite(Document):
    """A site's part of the verdict."""

    site: Name
    people: int = Field(description="Held-out patients, declared.")
    total: int = Field(description="As in the site's judgement.")


class Verdict(Document):
    """The coordinator's signed list of all admitted judgements; everybody computes the same estimate from it."""

    study: Digest
    initial: Digest
    final: Digest
    sites: tuple[JudgedSite, ...]
    log_head: Digest = Field(description="Head of the aggregator's hash-chained log when the list was closed.")


def judge_terms(study: Study) -> EvaluationTerms:
    """Return the terms of a study that has a judge; ValueError for one that has none."""
    if study.evaluation is None or study.evaluation.epsilon is None:
        raise ValueError(f"study '{study.name}' has no evaluation.epsilon.")
    return study.evaluation


def judge_event(terms: EvaluationTerms) -> Event:
    """Return what the judge does to each held-out patient, for the ledger."""
    if terms.epsilon is None:
        raise ValueError("these terms have no judge.")
    return sum_event(terms.mechanism, terms.epsilon, terms.delta)
