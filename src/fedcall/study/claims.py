"""Claims travel with updates; receipts answer them. Both are signed documents, free of data-dependent numbers."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from fedcall.documents import GrownDocument
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace
from fedcall.privacy.terms import PrivacyTerms
from fedcall.protection.envelope import Envelope
from fedcall.study.opened_sums import OpenedSum
from fedcall.study.terms import Digest, Name

ReasonCode = Literal[
    "ok",
    "withheld",
    "unregistered-site",
    "bad-signature",
    "wrong-study",
    "wrong-round",
    "wrong-base",
    "replay",
    "late",
    "malformed",
    "too-large",
    "tensor-names",
    "tensor-shape",
    "tensor-dtype",
    "not-finite",
    "mechanism",
    "epsilon",
    "budget",
    "noise-floor",
    "norm-ceiling",
    "range",
    "outlier",
    "site-quarantined",
]


class Claim(GrownDocument):
    """The site's signed statement about one round: what was released, how, and what it cost."""

    NEWER: ClassVar[tuple[str, ...]] = ("envelope",)

    # Infinity and NaN stay what they are, so that no signature takes them for null.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    study: Digest
    site: Name
    round: Annotated[int, Field(ge=1)]
    outcome: Literal["update", "withheld"]
    base: Digest = Field(description="Content digest of the global model the round started from.")
    update: Digest | None = Field(description="Content digest of the update; null when withheld.")
    privacy: PrivacyTerms = Field(description="The terms training really used.")
    epsilon: float | None = Field(
        description="Cumulative epsilon of this study's releases by this site, this one included (PLD, at the"
        " study's delta, per unit of the study); null without noise."
    )
    clipping: ClipTrace | None = Field(
        None, description="How adaptive clipping moved the clip norm; null for fixed clipping and when withheld."
    )
    ledger_head: Digest = Field(
        description="Digest of the row of the site's ledger that decided this round, its newest at that moment."
    )
    software: str
    envelope: Envelope | None = Field(
        None, description="How the update is hidden until it is part of a sum; null in a study that shows updates."
    )


class Receipt(GrownDocument):
    """The aggregator's signed answer to a claim."""

    NEWER: ClassVar[tuple[str, ...]] = ("opened",)

    study: Digest
    site: Name
    round: Annotated[int, Field(ge=1)]
    claim: Digest = Field(description="Digest of the claim this answers.")
    status: Literal["accepted", "rejected", "quarantined", "withheld"]
    reason: ReasonCode
    sentence: str = Field(description="The reason in words: what was found, what is allowed.")
    epsilon: float | None = Field(description="Cumulative epsilon as the aggregator recomputes it.")
    accepted_rounds: int = Field(description="Updates of this site accepted so far, this one included.")
    ledger_head: Digest | None = Field(
        description="The ledger_head of the claim: a site does not train on a ledger that lacks this row."
    )
    log_head: Digest = Field(description="Head of the aggregator's hash-chained admission log after this decision.")
    opened: OpenedSum | None = Field(
        None,
        description="How the sum that this update was ordered into was opened: the list of its sites, signed by the"
        " coordinator and by every helper; null until the round is closed, and in a study that shows updates.",
    )
