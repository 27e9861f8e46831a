"""Aggregator and helper are killed (SIGKILL) before and after every durable operation of a masked round."""

import sys

import pytest

from crashes import run_and_kill
from fedcall.federation.aggregator.state import StudyState
from masked_consortium import MaskedConsortium, make_masked_consortium

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


def play(consortium: MaskedConsortium, state: StudyState | None = None) -> None:
    """Play the open round from wherever it is, aggregator and helper in one process."""
    state = state or consortium.open_state()
    if state.is_done:
        return
    if not state.sums.is_ordered:
        consortium.upload_all(state, 1)
        state.close_round_if_due()
    consortium.ask_helpers(state)
    state.close_round_if_due()


def test_round__kill_9_at_every_moment_gives_one_list_and_the_same_model(tmp_path):
    reference = make_masked_consortium(tmp_path / "reference", rounds=1)
    play(reference)  # and fills the caches that a fork inherits
    expected = reference.open_state().log.openings[2]
    kills = 0
    while True:
        consortium = make_masked_consortium(tmp_path / str(kills), rounds=1)  # other keys, the same vectors
        consortium.open_state()
        if not run_and_kill(lambda: play(consortium), kills + 1):  # noqa: B023  (run at once)
            break
        kills += 1
        play(consortium)
        state = consortium.open_state()
        assert state.is_done, kills
        assert len(state.log.ordered) == len(consortium.desk("notary").log.lines) == 1
        assert (state.log.openings[2].base, state.log.openings[2].accepted) == (expected.base, expected.accepted)
        assert [state.log.site(site).accepted_rounds for site in ("east", "north", "south")] == [1, 1, 1]
    assert kills > 30
