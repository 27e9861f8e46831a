"""Large shards are worked on in parts of at most `shard_size` bases, one after another."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedcall.genomics.shards import WHOLE, Shard, work_in_turn

SPANS = [("1", 0, 70), ("1", 100, 130), ("2", 5, 6)]
BASES = 101


@pytest.mark.parametrize(
    ("shard", "shard_size", "pieces"),
    [
        (WHOLE, None, 1),
        (WHOLE, BASES, 1),
        (WHOLE, BASES - 1, 2),
        (WHOLE, 30, 4),
        (WHOLE, 1, BASES),
        (Shard(2, 4), 25, 1),
        (Shard(2, 4), 10, 3),
    ],
)
def test_work_in_turn__parts_are_no_larger_than_asked(
    tmp_path: Path, shard: Shard, shard_size: int | None, pieces: int
) -> None:
    done: list[Shard] = []

    def work(path: Path, part: Shard) -> int:
        done.append(part)
        path.write_text(str(part))
        return 1

    def gather(parts: Sequence[Path], output: Path, whole: Shard) -> int:
        assert whole == shard
        output.write_text(" ".join(part.read_text() for part in parts))
        return len(parts)

    output = tmp_path / "out"
    assert work_in_turn(output, SPANS, shard, shard_size, work, gather) == pieces
    assert done == ([shard] if pieces == 1 else shard.split(pieces))
    assert output.read_text() == " ".join(map(str, done))
    bases = [last - first for first, last in (part.bounds(BASES) for part in done)]
    assert max(bases) <= (shard_size or BASES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "no part is left behind"
