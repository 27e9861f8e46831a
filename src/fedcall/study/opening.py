"""The opening of a round: what the coordinator signs before anybody trains."""

from typing import Annotated

from pydantic import Field

from fedcall.documents import Document
from fedcall.study.terms import Digest, Name


class RoundOpening(Document):
    """The coordinator's signed statement that a round is open, from which global model, and who made that.

    Round `rounds + 1` of a study never collects updates: its base is the final model.
    """

    study: Digest
    round: Annotated[int, Field(ge=1)]
    base: Digest = Field(description="Content digest of the global model going into the round.")
    accepted: tuple[Name, ...] = Field(description="Sites whose updates made this model from the one before.")
    outliers: tuple[Name, ...] = Field(description="Sites whose updates were unlike the others' and were left out.")
    log_head: Digest = Field(description="Head of the aggregator's hash-chained admission log when the round opened.")
