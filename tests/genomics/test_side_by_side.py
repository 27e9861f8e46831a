"""Work on several items at a time: results in order, memory that no two of them share."""

import gc
import time

import numpy as np
import pytest

from fedcall.genomics.reads.workspace import Room, Workspace
from fedcall.genomics.side_by_side import side_by_side


def test_room__keeps_rows_when_it_grows() -> None:
    room = Room(np.int64, 2)
    room.take(3)[:3] = [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_array_equal(room.take(1_000, kept=3)[:3], [[0, 1], [2, 3], [4, 5]])
    assert len(room.take(1)) >= 1_000


def written_and_read(workspace: Workspace, item: int) -> tuple[int, bool]:
    """Write the item where reads lie, and say whether it is still there when others have had their turn."""
    reads = workspace.inflated.take(8)
    reads[:] = item
    time.sleep(0.002)
    return item, bool((reads == item).all())


@pytest.mark.parametrize("workers", [1, 3])
def test_side_by_side__in_order_and_in_memory_of_its_own(workers: int) -> None:
    seen = []
    results = side_by_side(written_and_read, range(40), workers, seen.append)
    assert results == [(item, True) for item in range(40)]
    assert seen == sorted(seen)
    assert seen[-1] == 40


def fails_at_seven(workspace: Workspace, item: int) -> int:
    if item == 7:
        raise ValueError("item 7")
    time.sleep(0.002)
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_side_by_side__stops_at_an_error_wherever_it_happens(workers: int) -> None:
    seen = []
    with pytest.raises(ValueError, match="item 7"):
        side_by_side(fails_at_seven, range(1000), workers, seen.append)
    assert len(seen) < 30
    assert gc.get_freeze_count() == 0
