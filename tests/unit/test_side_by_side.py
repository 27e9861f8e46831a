"""Work on several items at a time: results in order, memory that no two of them share."""

import time

import numpy as np
import pytest

from fedcall.genomics.side_by_side import side_by_side
from fedcall.genomics.workspace import Room, Workspace


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
    results = list(side_by_side(written_and_read, range(40), workers))
    assert results == [(item, True) for item in range(40)]
