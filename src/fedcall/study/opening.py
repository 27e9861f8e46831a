"""The opening of a round: what the coordinator signs before anybody trains."""

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

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
    void: str | None = Field(
        None, description="Why the round before averaged nothing although updates were received; null if it did."
    )
    log_head: Digest = Field(description="Head of the aggregator's hash-chained admission log when the round opened.")
    closed: str | None = Field(
        None,
        description="Why the coordinator ended the study before its last round; this base is then the final model.",
    )

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what an older opening does not have, so that it keeps its signature."""
        return {
            key: value for key, value in serialize(self).items() if key not in ("void", "closed") or value is not None
        }
