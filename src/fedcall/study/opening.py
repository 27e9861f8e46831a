"""The opening of a round: what the coordinator signs before anybody trains."""

from typing import Annotated, ClassVar

from pydantic import Field

from fedcall.documents import GrownDocument
from fedcall.study.opened_sums import OpenedSum
from fedcall.study.terms import Digest, Name


class RoundOpening(GrownDocument):
    """The coordinator's signed statement that a round is open, from which global model, and who made that.

    Round `rounds + 1` of a study never collects updates: its base is the final model.
    """

    NEWER: ClassVar[tuple[str, ...]] = ("void", "closed", "opened")

    study: Digest
    round: Annotated[int, Field(ge=1)]
    base: Digest = Field(description="Content digest of the global model going into the round.")
    accepted: tuple[Name, ...] = Field(description="Sites whose updates made this model from the one before.")
    outliers: tuple[Name, ...] = Field(description="Sites whose updates were unlike the others' and were left out.")
    void: str | None = Field(
        None, description="Why the round before averaged nothing although updates were received; null if it did."
    )
    log_head: Digest = Field(description="Head of the aggregator's hash-chained admission log when the round opened.")
    closed: str | None = Field(
        None,
        description="Why the coordinator ended the study before its last round; this base is then the final model.",
    )
    opened: OpenedSum | None = Field(
        None,
        description="How the sum of the round before was opened: who was in it, signed by the coordinator and by every"
        " helper; null in a study that shows updates, and where no helper was asked.",
    )
