"""One record of a VCF as text, and what its columns say where fedcall asks for it."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.shown import shown

_GENOTYPE = re.compile(r"[/|]?(?:[0-9]+|\.)(?:[/|](?:[0-9]+|\.))*")
_COVERING = ("<DEL", "<DUP", "<INV", "<CNV")
"""Symbolic alleles whose SVLEN counts bases of the reference behind POS (VCF 4.5, section 3), unlike that of <INS>."""


@dataclass(frozen=True)
class Genotype:
    """What GT says.

    Attributes
    ----------
    alleles : index of each copy's allele, None where it is not known
    phased : whether the order of the copies means something
    """

    alleles: tuple[int | None, ...]
    phased: bool


NO_GENOTYPE = Genotype((), phased=False)


@dataclass(frozen=True, slots=True)
class VcfRow:
    """One record, as far as fedcall reads it; REF and ALT in upper case.

    Attributes
    ----------
    start : 0-based; -1 for the POS 0 of a telomere
    keys, values : FORMAT and the patient's column as they stand; empty in a file without that column
    """

    contig: str
    start: int
    ref: str
    alts: tuple[str, ...]
    qual: str
    filter: str
    info: str
    keys: str
    values: str
    path: Path

    @property
    def place(self) -> str:
        """File, contig and 1-based position, for messages."""
        return f"{self.path}: {shown(self.contig, NAME_CHARACTERS)}:{self.start + 1}"

    @property
    def end(self) -> int:
        """0-based position after the last base of REF."""
        return self.start + len(self.ref)

    @property
    def reach(self) -> int:
        """0-based position after the last base that the record is about: as far as it says so, where ALT has no bases.

        That is END, or since VCF 4.5 POS and FORMAT/LEN of a block, or the longest of INFO/SVLEN of other alleles.
        """
        if not all(alt[:1] == "<" for alt in self.alts):
            return self.end
        reached = [self.end]
        stated = self.information("END")
        if stated is not None and stated.isdecimal():
            reached.append(int(stated))
        blocks = self.value("LEN")
        if blocks is not None and blocks.isdecimal():
            reached.append(self.start + int(blocks))
        sizes = (self.information("SVLEN") or "").split(",")
        for alt, size in zip(self.alts, sizes, strict=False):
            if alt.startswith(_COVERING) and size.removeprefix("-").isdecimal():
                reached.append(self.start + 1 + abs(int(size)))
        return max(reached)

    @property
    def filters(self) -> list[str]:
        """Names of the filters that the record failed."""
        return [name for name in self.filter.split(";") if name not in ("PASS", ".", "")]

    @property
    def quality(self) -> float | None:
        """QUAL, or None where it is no finite number."""
        return number(self.qual)

    def value(self, key: str) -> str | None:
        """Return the text of one FORMAT field, or None where it is missing."""
        at = _format(self.keys).get(key)
        if at is None:
            return None
        values = self.values.split(":")
        return values[at] if at < len(values) and values[at] not in ("", ".") else None

    def information(self, key: str) -> str | None:
        """Return the text of one INFO field, or None where it is missing or without a value."""
        for entry in self.info.split(";"):
            name, _, value = entry.partition("=")
            if name == key:
                return value if value not in ("", ".") else None
        return None

    def genotype(self) -> Genotype:
        """Return the genotype; no alleles where the record states none.

        Raises
        ------
        FedcallError
            If it is no genotype; names the place.
        """
        return self._genotype(self.value("GT"))

    def genotypes(self) -> list[Genotype]:
        """Return the genotypes of all columns, of a row read with `everybody`; errors as of `genotype`."""
        at = _format(self.keys).get("GT")
        if at is None:
            return []
        columns = (column.split(":", at + 1) for column in self.values.split("\t"))
        return [self._genotype(fields[at] if at < len(fields) else None) for fields in columns]

    def _genotype(self, text: str | None) -> Genotype:
        if not text:
            return NO_GENOTYPE
        found = _genotype(text)
        if found is None:
            raise FedcallError(f"{self.place}: '{text[:20]}' is no genotype; allele numbers are needed, as in 0/1")
        return found


def number(text: str | None) -> float | None:
    """Return the finite number that a text spells, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@lru_cache(maxsize=1024)
def _format(keys: str) -> dict[str, int]:
    return {key: index for index, key in reversed(list(enumerate(keys.split(":"))))}


@lru_cache(maxsize=4096)
def _genotype(text: str) -> Genotype | None:
    if not _GENOTYPE.fullmatch(text):
        return None
    phased = "|" in text and "/" not in text[1:]
    # VCF 4.4 may put the separator before the first allele, too.
    copies = re.split(r"[/|]", text[1:] if text[0] in "/|" else text)
    return Genotype(tuple(None if copy == "." else int(copy) for copy in copies), phased)
