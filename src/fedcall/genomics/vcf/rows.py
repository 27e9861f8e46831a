"""Read other people's VCF and BCF files row by row, without believing their headers.

htslib refuses a whole file for a tag that its header does not declare, or declares otherwise than it is used. fedcall
uses a handful of columns, so it takes the text apart itself: what it does not use can be as odd as it likes.
"""

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
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
from fedcall.genomics.vcf.record import VcfRow
from fedcall.genomics.vcf.sample import choose_sample

_FIXED = 8
_META_FIELD = re.compile(r'([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
"""One field of a header line: what stands within quotation marks is text, whatever it looks like."""
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_BEYOND_A_GENOME = 1 << 40
_EVERYBODY = -1


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
        everybody : `values` of a row are all columns, for `VcfRow.genotypes`

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
        if crashes(lambda: list(open_bcf(path, is_usable, blocked).index or ())):
            raise FedcallError(f"{path}: the file or its index is damaged, so that htslib crashes; make them again")
        variants = open_bcf(path, is_usable, blocked)
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
    if tabs == needed + 1 and text.endswith("\t"):  # htslib reads past it, too
        text, tabs = text[:-1], needed
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
