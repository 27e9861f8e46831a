"""A site takes no model that was made without a sum which every helper signed; it verifies that before it trains."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedcall.documents import read_unverified, sign
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.drops import Drops
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.site.visits import fetch_global
from fedcall.keys import read_signing_key
from fedcall.study.opening import RoundOpening
from fedcall.study.sum_orders import SumOrder
from masked_consortium import MaskedConsortium, make_masked_consortium
from service import drop_visitor


@pytest.fixture
def consortium(tmp_path: Path) -> MaskedConsortium:
    return make_masked_consortium(tmp_path, helpers=("notary", "ethics"))


def fetch(consortium: MaskedConsortium, state: StudyState, number: int) -> RoundOpening:
    """Fetch a round's model through a folder; request and answer lie there at once."""
    folder = consortium.folder / "drop"
    folder.mkdir(exist_ok=True)
    visitor = drop_visitor(consortium, "north", folder, 0)
    model = consortium.folder / f"fetched.{number}"
    with pytest.raises(FedcallError, match="nothing is lost"):
        fetch_global(visitor, number, model)
    Drops(state, [folder], read_signing_key(consortium.keys("coordinator")), 1_000_000).look()
    return fetch_global(visitor, number, model)


def forging(consortium: MaskedConsortium, state: StudyState, change: Callable[[RoundOpening], RoundOpening]) -> None:
    """Let the coordinator sign other openings than its log holds."""
    honest = state.opening

    def forged(number: int) -> bytes | None:
        signed = honest(number)
        if signed is None:
            return None
        return sign(change(read_unverified(signed, RoundOpening)[0]), read_signing_key(consortium.keys("coordinator")))

    state.opening = forged


def test_fetch__tells_who_was_in_the_sum(consortium):
    state = consortium.open_state()
    assert fetch(consortium, state, 1).opened is None
    consortium.play_round(state, 1)
    opened = fetch(consortium, state, 2).opened
    assert read_unverified(opened.order.encode(), SumOrder)[0].sites == ("east", "north", "south")
    assert len(opened.answers) == 2


def _without_sum(opening: RoundOpening) -> RoundOpening:
    return opening.model_copy(update={"opened": None})


def _without_a_helper(opening: RoundOpening) -> RoundOpening:
    opened = opening.opened.model_copy(update={"answers": opening.opened.answers[:1]})
    return opening.model_copy(update={"opened": opened})


def _with_another_site(opening: RoundOpening) -> RoundOpening:
    return opening.model_copy(update={"accepted": (*opening.accepted, "west")})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_without_sum, "changed without a sum"),
        (_without_a_helper, "1 of 2 helpers"),
        (_with_another_site, "'west', which is not in the sum"),
    ],
)
def test_fetch__a_model_made_without_a_sum_that_helpers_signed_is_refused(consortium, change, match):
    state = consortium.open_state()
    consortium.play_round(state, 1)
    forging(consortium, state, change)
    with pytest.raises(FedcallError, match=match):
        fetch(consortium, state, 2)
    assert not (consortium.folder / "fetched.2").exists(), "nothing to train on"
