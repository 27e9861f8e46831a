"""On what the final model is judged: regions nobody trains on, and the private comparison on held-out patients."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedcall.documents import Document

_CONTIG, _SPAN = re.compile(r"\S+"), re.compile(r":([0-9]+)-([0-9]+)$")


class EvaluationTerms(Document):
    """How a study finds out whether its final model is better than its first one.

    `epsilon` switches the private judge on: each site releases the noisy sum, over its declared held-out patients, of
    the clipped difference of F1 between the final and the first model.
    """

    regions: tuple[str, ...] = Field(
        (),
        description="Regions no site trains on (CONTIG or CONTIG:FIRST-LAST, from 1, both ends included): the workflow"
        " leaves them out of every training patient, and the models are compared there.",
    )
    epsilon: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] | None = Field(
        None, description="Spent by each held-out patient on the private judge, once; null: there is no judge."
    )
    delta: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Of epsilon. Laplace noise keeps epsilon at every delta, 0 too; Gaussian noise needs one."
    )
    mechanism: Literal["laplace", "gaussian"] = Field(
        "laplace", description="Distribution of the judge's noise. For one number Laplace noise is the smaller."
    )
    clip: Annotated[float, Field(ge=0.001, le=1)] = Field(
        0.05, description="A held-out patient's difference of F1 counts as at most this, up or down."
    )

    @field_validator("regions")
    @classmethod
    def _are_regions(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        for region in regions:
            span = _SPAN.search(region)
            first, last = (int(span[1]), int(span[2])) if span else (1, 1)
            if not _CONTIG.fullmatch(region) or not 1 <= first <= last:
                raise ValueError(
                    f"'{region}' is no region; needed: CONTIG or CONTIG:FIRST-LAST, for example chr20:1-90000"
                )
        return regions

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mechanism == "gaussian" and self.delta == 0:
            raise ValueError("mechanism 'gaussian' needs a delta above 0; set delta, or choose laplace")
        return self
