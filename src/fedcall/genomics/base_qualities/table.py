"""A patient's table: which qualities of the patient's reads to lower, and by how much, with what was counted for it."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from fedcall.documents import Document, describe
from fedcall.errors import FedcallError
from fedcall.files import write_text
from fedcall.genomics.base_qualities.read_places import CLASSES, HIGHEST, MATES, QUALITIES, name_of_class
from fedcall.genomics.reads.record_fields import MIN_BASE_QUALITY

_BASES = "ACGT"
_LOWEST = 2
"""Phred 2, an error in more than half of the cases, is the lowest quality that machines report."""

Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class QualityRow(Document):
    """Bases of one reported quality: how many of them were read wrong, and which quality they are given."""

    reported: Annotated[int, Field(ge=MIN_BASE_QUALITY, le=HIGHEST)]
    bases: Count
    mismatches: Count
    measured: Annotated[float, Field(ge=0)] = Field(description="Phred, shrunk towards what the neighbours show.")
    used: Annotated[int, Field(ge=_LOWEST, le=HIGHEST)]


class DamageRow(Document):
    """One kind of mismatch in one part of the reads that is more frequent than their qualities say."""

    kind: Annotated[str, Field(pattern=r"^[ACGT]>[ACGT]$")] = Field(description="As sequenced, for example C>T.")
    mate: Annotated[int, Field(ge=1, le=MATES)]
    place: Annotated[int, Field(ge=0, lt=CLASSES)]
    bases: Count
    mismatches: Count
    expected: Annotated[float, Field(ge=0)] = Field(description="Mismatches that the qualities in use expect.")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(description="Beyond what is expected, a base.")


class RecalibrationTable(Document):
    """What one patient's own reads say about their base qualities. It stays at the hospital.

    Attributes
    ----------
    reads : digest by which the reads it was made from are known again
    counted : bases that were looked at
    overstated : mean Phred by which reported qualities exceed the measured ones, and its lower bound (99 %)
    qualities : empty where the reported qualities are left alone
    damage : empty where there is none to speak of
    """

    schema_version: Literal["fedcall.recalibration/1"] = "fedcall.recalibration/1"
    reads: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    counted: Count
    overstated: Finite
    overstated_at_least: Finite
    qualities: tuple[QualityRow, ...]
    damage: tuple[DamageRow, ...]

    @property
    def leaves_alone(self) -> bool:
        """Whether reads are used as they are, bit for bit."""
        return not self.qualities and not self.damage

    def used_qualities(self) -> np.ndarray | None:
        """Return the quality in use by reported quality (uint8, shape (256,)); None where all are left alone."""
        if not self.qualities:
            return None
        used = np.arange(256, dtype=np.uint8)
        for row in self.qualities:
            used[row.reported] = row.used
        used[QUALITIES:255] = np.minimum(used[QUALITIES:255], used[HIGHEST])
        return used

    def damaged_qualities(self) -> np.ndarray | None:
        """Return the quality of mismatches, by mate, place in the read, reference base, base shown, quality in use.

        Returns
        -------
        uint8, shape (2, 11, 4, 4, 256), or None where there is no damage

        Notes
        -----
        The likelihood takes a third of a base's error probability for each wrong base, so a mismatch that errors bring
        with probability e / 3 and damage with probability d has the quality -10 log10(e + 3 d).
        """
        if not self.damage:
            return None
        qualities = np.arange(256, dtype=np.uint8)
        result = np.broadcast_to(qualities, (MATES, CLASSES, 4, 4, 256)).copy()
        for row in self.damage:
            error = 10.0 ** (-np.arange(255) / 10) + 3 * row.rate
            lowered = np.maximum(np.rint(-10 * np.log10(np.minimum(error, 1.0))), _LOWEST)
            cell = result[row.mate - 1, row.place, _BASES.index(row.kind[0]), _BASES.index(row.kind[2])]
            cell[:255] = np.minimum(qualities[:255], lowered)
        return result

    def in_words(self) -> list[str]:
        """Return what was found, a line each."""
        lines = [f"{self.counted:,} bases counted"]
        if self.qualities:
            lines.append(
                f"qualities are lowered: they say {self.overstated:.1f} Phred more than the reads show (at least"
                f" {self.overstated_at_least:.1f}, 99 %)"
            )
        else:
            lines.append(
                f"reported qualities are left alone: they exceed the measured ones by {self.overstated:.1f} Phred, at"
                f" least {self.overstated_at_least:.1f} (99 %)"
            )
        for (kind, mate), rows in self._damage_by_kind().items():
            worst = max(rows, key=lambda row: row.rate)
            lines.append(
                f"{kind} in read {mate}: {sum(row.mismatches for row in rows)} where"
                f" {sum(row.expected for row in rows):.0f} are expected; most ({worst.rate:.2%} of the bases)"
                f" {name_of_class(worst.place)}"
            )
        return lines if self.damage else [*lines, "no damage to speak of"]

    def _damage_by_kind(self) -> dict[tuple[str, int], list[DamageRow]]:
        found: dict[tuple[str, int], list[DamageRow]] = {}
        for row in self.damage:
            found.setdefault((row.kind, row.mate), []).append(row)
        return found


def write_table(path: Path, table: RecalibrationTable) -> None:
    """Write a table as JSON; equal tables give equal bytes."""
    write_text(path, table.model_dump_json(indent=1) + "\n")


def read_table(path: Path, reads: str) -> RecalibrationTable:
    """Read a table, and refuse one that was made from other reads than these.

    Parameters
    ----------
    reads : from `reads_digest`, of the alignments it is to be used on

    Raises
    ------
    FedcallError
        Naming the file and what is wrong.
    """
    try:
        table = RecalibrationTable.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise FedcallError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise FedcallError(f"{path}: not a table of 'fedcall recalibrate' ({describe(error)}); make it again") from None
    if table.reads != reads:
        raise FedcallError(
            f"{path}: made from other reads; a patient's table is for that patient's reads alone: make it from these"
            " alignments with 'fedcall recalibrate'"
        )
    return table
