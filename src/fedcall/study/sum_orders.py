"""Sum orders and their answers: how the coordinator has one sum opened, and who was in it.

At the end of a round the coordinator signs one order, for good: the list of the updates whose sum is wanted. Each
helper answers it with a signed statement of the sum of its masks over exactly this list. Order and answers go into the
admission log, where every site can hold them against its own claim.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from fedcall.documents import Document, GrownDocument, verify
from fedcall.errors import FedcallError
from fedcall.study.terms import Digest, Name, Study

_SIGNED_CHARACTERS = 1 << 17


class ListedUpdate(Document):
    """One update of a sum."""

    site: Name
    claim: Digest = Field(description="Digest of the site's claim.")
    update: Digest = Field(description="Content digest of the masked update.")


class SumOrder(Document):
    """The coordinator's signed order to open one sum; a round has one, and never another list."""

    study: Digest
    round: Annotated[int, Field(ge=1, le=1_000_000)]
    base: Digest = Field(description="Content digest of the global model that all the updates start from.")
    values: Annotated[int, Field(ge=1, le=1 << 28)] = Field(description="Numbers in each update.")
    updates: Annotated[tuple[ListedUpdate, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _one_list(self) -> "SumOrder":
        names = [one.site for one in self.updates]
        if names != sorted(set(names)):
            raise ValueError("updates must be in the order of their sites' names, each site once")
        return self

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites in the sum."""
        return tuple(one.site for one in self.updates)


class MaskSum(GrownDocument):
    """A helper's signed answer to a sum order: what it gave, and where that stands in its own log."""

    NEWER: ClassVar[tuple[str, ...]] = ("partial",)

    study: Digest
    round: Annotated[int, Field(ge=1)]
    helper: Name
    order: Digest = Field(description="Digest of the sum order that this answers.")
    masks: Digest | None = Field(
        description="SHA-256 of the sum of the masks (little-endian 32-bit numbers); null if a seed did not open."
    )
    unopened: tuple[Name, ...] = Field(
        description="Sites whose sealed seed is none, or is not for this update: the round opens nothing."
    )
    entries: Annotated[int, Field(ge=1)] = Field(description="Length of the helper's log after this answer.")
    log_head: Digest = Field(description="Head of the helper's hash-chained log after this answer.")
    partial: Digest | None = Field(
        None, description="SHA-256 of a key holder's partial decryption; null if updates are not encrypted."
    )


class OrderPapers(Document):
    """What a helper is shown with an order, and need not believe: claims as the sites signed them, and its own word."""

    claims: Annotated[tuple[Annotated[str, Field(max_length=_SIGNED_CHARACTERS)], ...], Field(max_length=10_000)]
    newest: Annotated[str, Field(max_length=_SIGNED_CHARACTERS)] | None = Field(
        description="The helper's newest signed answer in this study; null before the first."
    )


def check_opening(study: Study, number: int, order: str, answers: Sequence[str]) -> SumOrder:
    """Return the order of a sum that was opened, once it is verified that every helper of the study answered it.

    Raises
    ------
    FedcallError
        If a signature is not the coordinator's or the helper's, an answer is to another order, a helper's is missing,
        or the sum is over fewer sites than the study allows, or over sites that are not the study's.
    """
    found = verify(order.encode(), SumOrder, str(study.coordinator))
    where = f"the sum of round {number}"
    if (found.study, found.round) != (study.digest, number):
        raise FedcallError(f"{where}: its order is for round {found.round} of study {found.study}")
    stranger = next((name for name in found.sites if name not in {site.name for site in study.sites}), None)
    if stranger is not None:
        raise FedcallError(f"{where}: lists '{stranger}', which is no site of study '{study.name}'")
    if len(found.sites) < study.least_sites:
        raise FedcallError(
            f"{where}: is over {len(found.sites)} sites, the study allows no fewer than {study.least_sites}"
        )
    helpers = study.protection.helpers
    if len(answers) != len(helpers):
        raise FedcallError(f"{where}: has the answers of {len(answers)} of {len(helpers)} helpers")
    for helper, signed in zip(helpers, answers, strict=True):
        answer = verify(signed.encode(), MaskSum, helper.public_key)
        if (answer.study, answer.round, answer.helper, answer.order) != (
            study.digest,
            number,
            helper.name,
            found.digest,
        ):
            raise FedcallError(f"{where}: helper '{helper.name}' signed the answer to another order")
    return found
