"""Use a patient's table: lower the qualities of the patient's reads before anything looks at them."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcall.genomics.base_qualities.quality_kernels import write_damage, write_qualities
from fedcall.genomics.base_qualities.read_places import CLASS_OF_DISTANCE
from fedcall.genomics.reads.alignment_records import Records

if TYPE_CHECKING:  # a command that is given no table starts without pydantic
    from fedcall.genomics.base_qualities.table import RecalibrationTable

_KNOWN_BYTES = 1 << 20


class Recalibration:
    """A table, ready to be used on stretch after stretch.

    Parameters
    ----------
    table : of the patient whose reads are to be changed
    """

    def __init__(self, table: "RecalibrationTable") -> None:
        self._qualities = table.used_qualities()
        self._damage = table.damaged_qualities()

    def apply(self, records: Records, reference: np.ndarray, start: int) -> None:
        """Write the qualities in use into the records' own buffer.

        A base's new quality depends on its read and on the reference under it, and on nothing else.

        Parameters
        ----------
        records : spelled plainly
        reference : uint8, 0..3 = ACGT, 4 = other; from position `start` on
        """
        if self._qualities is not None:
            write_qualities(records.buffer, records.table, self._qualities)
        if self._damage is not None:
            write_damage(records.buffer, records.table, reference, start, CLASS_OF_DISTANCE, self._damage)


def reads_digest(alignments: Path) -> str:
    """Return a digest by which a file of alignments is known again: of its size and its first megabyte (SHA-256)."""
    with open(alignments, "rb") as handle:
        start = handle.read(_KNOWN_BYTES)
        size = handle.seek(0, 2)
    return hashlib.sha256(b"%d:" % size + start).hexdigest()
