"""Limits on what a person may ever lose: the hospital's own, and the cap of every study that charged the person.

A hospital's administrator writes its own limit once, into `limit.yaml` beside the ledger:

    epsilon: 8.0
    delta: 1.0e-5
    epsilon_if_broken: 30.0    # optional

No study and no configuration can name another file, and what was charged under a limit stays under it for ever: the
ledger keeps the limit with each charge, so a file that is changed or removed later lifts nothing.

Where hospitals share the noise (`privacy.noise: pooled`), a charge costs less if nobody sees a single update than if
coordinator and helpers break that promise together. A hospital's limit holds for both: `epsilon_if_broken` may be
larger, but has to be written down; without it `epsilon` holds even if the promise is broken.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from fedcall.documents import GrownDocument
from fedcall.privacy.terms import Unit
from fedcall.yaml_files import read_yaml

LIMIT_FILE = "limit.yaml"


class Limit(GrownDocument):
    """What a person's (or an example's) cumulative loss over everything in the ledger must never pass."""

    NEWER: ClassVar[tuple[str, ...]] = ("epsilon_if_broken", "if_broken")

    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="Over all studies, ever.")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(description="Delta of that epsilon.")
    unit: Unit = Field("patient", description="What the epsilon protects: everything of a person, or one example.")
    epsilon_if_broken: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Of a hospital: the limit on what pooled noise costs if single updates are seen; null: epsilon.",
    )
    if_broken: bool = Field(
        False, description="Whether it holds for what pooled noise costs if single updates are seen."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epsilon_if_broken is not None and self.epsilon_if_broken < self.epsilon:
            raise ValueError(
                f"epsilon_if_broken {self.epsilon_if_broken:g} is below epsilon {self.epsilon:g}: a share of the noise"
                " never protects better than all of it; raise it, or leave it out"
            )
        return self

    def implies(self, other: "Limit") -> bool:
        """Say whether whoever keeps this limit keeps the other one, too."""
        is_as_strict = self.if_broken or not other.if_broken
        return self.unit == other.unit and is_as_strict and self.epsilon <= other.epsilon and self.delta <= other.delta


def both_limits(own: Limit, has_pooled: bool) -> tuple[Limit, ...]:
    """Return what a hospital's limit says of promises kept and, where noise was ever pooled, of broken ones."""
    kept = own.model_copy(update={"epsilon_if_broken": None})
    if not has_pooled:
        return (kept,)
    broken = {"epsilon": own.epsilon_if_broken or own.epsilon, "if_broken": True}
    return (kept, kept.model_copy(update=broken))


def limit_file(ledger: Path) -> Path:
    """Return the path of a hospital's own limit: beside its ledger."""
    return Path(ledger).parent / LIMIT_FILE


def read_limit(ledger: Path) -> Limit | None:
    """Return the hospital's own limit; None if there is none.

    Raises
    ------
    FedcallError
        If the file is no limit; names file, line, key and what is allowed.
    """
    path = limit_file(ledger)
    return read_yaml(path, Limit) if path.exists() else None
