"""Read other people's VCF and BCF files row by row, without believing their headers.

htslib refuses a whole file for a tag that its header does not declare, or declares otherwise than it is used. fedcall
uses a handful of columns, so it takes the text apart itself: what it does not use can be as odd as it likes.
"""

import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.genomics.trial import crashes
from fedcall.genomics.vcf.lines import (
    BcfLines,
    RecordLines,
    Span,
    TextLines,
    close_bcf,
    first_bytes,
    open_bcf,
    open_text,
    refuse_truncated,
    usable_index,
)
from fedcall.genomics.vcf.sample import choose_sample
from fedcall.shown import shown

_FIXED = 8
_GENOTYPE = re.compile(r"[/|]?(?:[0-9]+|\.)(?:[/|](?:[0-9]+|\.))*")
_META_FIELD = re.compile(r'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
"""One field of a header line: what stands within quotation marks is text, whatever it looks like."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_BEYOND_A_GENOME = 1 << 40
_COVERING = ("<DEL", "<DUP", "<INV", "<CNV")
"""Symbolic alleles whose SVLEN counts bases of the reference behind POS (VCF 4.5, section 3), unlike that of <INS>."""
_EVERYBODY = -1


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


class VcfFile:
    """An open VCF or BCF; see `open_rows`.

    Attributes
    ----------
    meta : the header's `##` lines
    contigs : those of the header with their lengths in bases, None where it does not say
    samples : names of the genotype columns
    is_plain_gzip : compressed, but not in blocks that can be read at random
    """

    def __init__(self, path: Path, meta: Sequence[str], samples: Sequence[str], lines: RecordLines) -> None:
        self.path, self.meta, self.samples = path, list(meta), list(samples)
        self.is_plain_gzip = isinstance(lines, TextLines) and lines.compressed and not lines.blocked
        self.contigs: dict[str, int | None] = {}
        for line in meta:
            if line.startswith("##contig=<"):
                content = line[len("##contig=<") :].rstrip().removesuffix(">")
                fields = {key.strip(): value.strip('"') for key, value in reversed(_META_FIELD.findall(content))}
                if "ID" in fields:
                    length = fields.get("length", "")
                    self.contigs[fields["ID"]] = int(length) if length.isdecimal() else None
        self._lines = lines

    def meta_value(self, key: str) -> str | None:
        """Return the value of the first header line `##key=value`, or None."""
        start = f"##{key}="
        return next((line[len(start) :] for line in self.meta if line.startswith(start)), None)

    def rows(
        self, sample: str | None = None, spans: Sequence[Span] | None = None, everybody: bool = False
    ) -> Iterator[VcfRow]:
        """Yield the records in the order of the file, or those that overlap sorted, disjoint spans, once each.

        An index is used where there is one that is not older than the file; without one the file is read through.

        Parameters
        ----------
        sample : whose column `values` of a row is; without it and without `everybody`, genotypes are not looked at
        everybody : `values` of a row are all columns, for `Row.genotypes`

        Raises
        ------
        FedcallError
            If a row is no record; names the line or the position.
        """
        column = self.samples.index(sample) if sample is not None else _EVERYBODY if everybody else None
        near: dict[str, list[tuple[int, int]]] = {}
        for contig, start, end in spans or ():
            near.setdefault(contig, []).append((start, end))
        try:
            for text, line in self._lines(spans):
                row = _parse(text, line, self.path, len(self.samples), column)
                if spans is None or _overlaps(row, near):
                    yield row
        except _UNREADABLE as error:
            raise _unreadable(self.path, error) from None

    def indexed_contigs(self) -> list[str] | None:
        """Return the contigs of the index, or None without an index that can be used."""
        return self._lines.indexed_contigs()


def kept_open(path: Path, what: str) -> VcfFile:
    """Return a VCF to be asked for many stretches, open as long as this process asks for no other.

    Its index is used even if it is older than the file, as htslib does.
    """
    stamp = file_stamp(path) if Path(path).is_file() else None
    return _kept_open(Path(path), what, os.getpid(), stamp)


@lru_cache(maxsize=2)
def _kept_open(path: Path, what: str, process: int, stamp: tuple[int, int] | None) -> VcfFile:
    if stamp is None:
        raise FedcallError(f"{path}: no such {what}")
    try:
        return _opened(path, what, None, trust_index=True)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


@contextmanager
def open_rows(path: Path, what: str = "VCF file", trust_index: bool = False) -> Iterator[VcfFile]:
    """Yield an open VCF (plain, gzipped or bgzipped) or BCF; `what` names it in messages.

    Parameters
    ----------
    trust_index : use the index even if it is older than the file, as htslib does

    Raises
    ------
    FedcallError
        If it is missing, is neither, or breaks off; also while its rows are read.
    """
    path = Path(path)
    if not path.is_file():
        raise FedcallError(f"{path}: no such {what}")
    with ExitStack() as stack:
        try:
            vcf = _opened(path, what, stack, trust_index)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from None
        yield vcf


def patient_column(vcf: VcfFile, wanted: str | None) -> str:
    """Return the wanted sample of an open VCF, or its only one; errors as of `choose_sample`."""
    return choose_sample(vcf.path, vcf.samples, wanted)


_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)


def _unreadable(path: Path, error: Exception) -> FedcallError:
    # A path, which may be called anything, stands in what the system says, and in nothing that zlib says.
    if isinstance(error, EOFError) or (isinstance(error, zlib.error) and "truncated" in str(error)):
        return FedcallError(f"{path}: breaks off in the middle; copy or make the file again")
    return FedcallError(f"{path}: not a readable VCF file ({error})")


def _opened(path: Path, what: str, stack: ExitStack | None, trust_index: bool) -> VcfFile:
    """Open a file; without a stack that closes it, it stays open."""
    with open(path, "rb") as handle:
        start = handle.read(64)
    compressed = start[:2] == b"\x1f\x8b"
    blocked = compressed and start[12:14] == b"BC"
    if blocked:
        refuse_truncated(path)
    inner = first_bytes(path) if compressed else start
    if inner[:3] == b"BCF":
        is_usable = blocked and usable_index(path, "bcf", trust_index) is not None
        if crashes(lambda: list(open_bcf(path, is_usable).index or ())):
            raise FedcallError(f"{path}: the file or its index is damaged, so that htslib crashes; make them again")
        try:
            variants = open_bcf(path, is_usable)
        except NotImplementedError:  # pysam looks for its place in the file, which plain gzip has none of
            raise FedcallError(
                f"{path}: BCF compressed with gzip in place of bgzip; make it again with: gunzip -c {path} |"
                " bcftools view -Ob -o NEW.bcf -"
            ) from None
        if stack is not None:
            stack.callback(close_bcf, variants)
        meta = [line for line in str(variants.header).splitlines() if line.startswith("##")]
        return VcfFile(path, meta, list(variants.header.samples), BcfLines(variants, is_usable))
    if inner[:2] in _MARKS:
        raise FedcallError(f"{path}: {_MARKS[inner[:2]]} text, not a VCF; save it as UTF-8")
    meta, samples = _read_header(path, compressed, what)
    return VcfFile(path, meta, samples, TextLines(path, compressed, blocked, trust_index))


def _read_header(path: Path, compressed: bool, what: str) -> tuple[list[str], list[str]]:
    meta: list[str] = []
    with open_text(path, compressed) as handle:
        for number_of_line, line in enumerate(handle, start=1):
            line = line.rstrip("\r\n")
            if number_of_line == 1:
                line = line.removeprefix("\ufeff")
                if not line.startswith("##fileformat="):
                    raise FedcallError(f"{path}: not a VCF file (no '##fileformat' in its first line)")
            if line.startswith("##"):
                meta.append(line)
                continue
            columns = line.split("\t")
            if columns[0] != "#CHROM" or len(columns) < _FIXED:
                raise FedcallError(
                    f"{path}:{number_of_line}: the line '#CHROM POS ID REF ALT QUAL FILTER INFO', tab-separated, is"
                    f" needed here; found '{line[:40]}'"
                )
            samples = columns[_FIXED + 1 :]
            twice = next((name for name in samples if samples.count(name) > 1), None) if samples else None
            if twice is not None and len(set(samples)) < len(samples):
                raise FedcallError(
                    f"{path}:{number_of_line}: the column '{twice}' is there twice; name each person once"
                )
            return meta, samples
    lacking = "line '#CHROM …'" if meta else "'##fileformat' in its first line"
    raise FedcallError(f"{path}: not a whole {what} (no {lacking})")


def _parse(text: str, line: int | None, path: Path, samples: int, column: int | None) -> VcfRow:
    tabs = text.count("\t")
    needed = _FIXED + samples if samples else _FIXED - 1
    if tabs != needed and (samples or tabs < needed):
        found = "an empty line" if not text.strip() else f"{tabs + 1} tab-separated columns"
        raise FedcallError(
            f"{_where(path, line, text)}: {found} where the header promises {needed + 1}; the file is damaged here"
        )
    if column == _EVERYBODY and not samples:
        column = None
    last = _FIXED + 1 if column in (None, _EVERYBODY) else _FIXED + (column or 0) + 2
    fields = text.split("\t", last)
    contig, position, _, ref, alt, qual, filters, info = fields[:_FIXED]
    if not position.isdecimal() or int(position) > _BEYOND_A_GENOME or not contig or not ref:
        place = f"CHROM '{contig[:40]}', POS '{position[:20]}', REF '{ref[:20]}'"
        raise FedcallError(f"{_where(path, line, text)}: {place} are no place in a genome")
    keys, values = (fields[_FIXED], fields[_FIXED + 1 + max(column, 0)]) if column is not None else ("", "")
    alts = () if alt in (".", "") else tuple(alt.upper().split(","))
    return VcfRow(contig, int(position) - 1, ref.upper(), alts, qual, filters, info, keys, values, path)


def _where(path: Path, line: int | None, text: str) -> str:
    fields = text.split("\t", 2)
    return f"{path}:{line}" if line is not None else f"{path}: {':'.join(field[:40] for field in fields[:2])}"


def _overlaps(row: VcfRow, spans: Mapping[str, Sequence[tuple[int, int]]]) -> bool:
    own = spans.get(row.contig)
    if own is None:
        return False
    low, high = 0, len(own)
    while low < high:  # the first span that ends behind the record's start
        middle = (low + high) // 2
        low, high = (middle + 1, high) if own[middle][1] <= row.start else (low, middle)
    return low < len(own) and own[low][0] < row.reach


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
