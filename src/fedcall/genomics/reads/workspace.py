"""Arrays that are used again for each stretch of the genome: new memory costs more time than filling it."""

import numpy as np
from numpy.typing import DTypeLike

from fedcall.genomics.examples import COUNT_CHANNELS
from fedcall.genomics.reads.record_fields import RECORD_COLUMNS


class Room:
    """An array that grows by doubling and is never given back while this lives.

    Parameters
    ----------
    dtype : of the array
    columns : shape of a row; none for a plain vector
    """

    def __init__(self, dtype: DTypeLike, *columns: int) -> None:
        self._array = np.empty((0, *columns), dtype)

    def take(self, rows: int, kept: int = 0) -> np.ndarray:
        """Return an array of at least `rows` rows; the first `kept` hold what they held, the others anything.

        What was returned before is written over, or left behind.
        """
        if rows > len(self._array):
            grown = np.empty((max(rows, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype)
            grown[:kept] = self._array[:kept]
            self._array = grown
        return self._array


class Workspace:
    """What one worker needs for one stretch at a time: inflated reads, the table of records, counts.

    Where reads are not too many for them, short counts halve the time that counts cost, which is memory's.
    """

    def __init__(self) -> None:
        self.inflated = Room(np.uint8)
        self.table = Room(np.int64, RECORD_COLUMNS)
        self.counts = Room(np.int32, len(COUNT_CHANNELS))
        self.short_counts = Room(np.int16, len(COUNT_CHANNELS))
