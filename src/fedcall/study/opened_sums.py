"""The opened sum of a round, as a site verifies it: who was in it, signed by the coordinator and by every helper.

The opening of the next round carries it, so that no site trains on a model that was made otherwise; so does the receipt
of an update, from the moment its round is closed.
"""

from collections.abc import Sequence

from pydantic import Field

from fedcall.documents import Document, read_unverified
from fedcall.errors import FedcallError
from fedcall.study.sum_orders import ListedUpdate, MaskSum, SumOrder, check_opening
from fedcall.study.terms import Study


class OpenedSum(Document):
    """The coordinator's order, with the list of the updates, and each helper's answer to it; every part is signed."""

    order: str = Field(description="The coordinator's signed sum order (SumOrder): it lists the sites of the sum.")
    answers: tuple[str, ...] = Field(
        description="The helpers' signed answers (MaskSum) to this order, in the study's order of helpers."
    )


def verify_sum(study: Study, number: int, opened: OpenedSum | None, accepted: Sequence[str] = ()) -> SumOrder | None:
    """Return the order of a round's sum once all signatures on it are verified; None if no sum was opened.

    Parameters
    ----------
    opened : OpenedSum, optional
        What the coordinator shows of the sum of round `number`.
    accepted : sequence of str
        Sites whose updates are said to have made the model that follows the round.

    Raises
    ------
    FedcallError
        If a signature is not the coordinator's or the helper's, the list is not one that the study allows, or the model
        is said to be made of updates that are in no sum which all helpers opened.
    """
    order = None
    if opened is not None:
        found = check_opening(study, number, opened.order, opened.answers)
        answers = [read_unverified(answer.encode(), MaskSum)[0] for answer in opened.answers]
        order = None if any(answer.masks is None for answer in answers) else found
    if not accepted:
        return order
    if order is None:
        raise FedcallError(
            f"round {number}: the model changed without a sum that coordinator and helpers signed; ask the coordinator"
        )
    outside = next((site for site in accepted if site not in order.sites), None)
    if outside is not None:
        raise FedcallError(
            f"round {number}: the model is said to hold the update of site '{outside}', which is not in the sum that"
            " the helpers signed; ask the coordinator"
        )
    return order


def own_update(order: SumOrder, site: str) -> ListedUpdate | None:
    """Return what an order lists of a site; None if the sum is over others."""
    return next((one for one in order.updates if one.site == site), None)
