"""Lines of a VCF's or BCF's records, from the whole file or near spans, in whatever way the file is packed."""

import gzip
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import open_binary
from fedcall.genomics import pysam_settings  # noqa: F401
from fedcall.genomics.binning_index import Records, UnfaithfulIndexError, check_index
from fedcall.genomics.index_files import htslib_name
from fedcall.genomics.regions import EOF_BLOCK
from fedcall.genomics.trial import crashes

Span = tuple[str, int, int]
"""Contig, start and end, 0-based and half-open."""
_BYTES_A_LOOK_UP = 256
"""Compressed bytes, some 10 records, that are read in the time of one look-up by an index."""


class RecordLines:
    """Lines of records with their number in the file, None where it is not known."""

    def __call__(self, spans: Sequence[Span] | None) -> Iterator[tuple[str, int | None]]:
        raise NotImplementedError

    def indexed_contigs(self) -> list[str] | None:
        raise NotImplementedError


class TextLines(RecordLines):
    def __init__(self, path: Path, compressed: bool, blocked: bool, trust_index: bool) -> None:
        self.path, self.compressed, self.blocked, self.trust_index = path, compressed, blocked, trust_index

    def __call__(self, spans: Sequence[Span] | None) -> Iterator[tuple[str, int | None]]:
        # pysam hands over the names of an index as they are in the file's bytes.
        is_sought = spans is not None and all(contig.isascii() for contig, _, _ in spans)
        index = self._index if is_sought and not _are_many(spans, self.path) else None
        if spans is None or index is None:
            yield from self._all()
        else:
            yield from _in_spans(spans, set(index.contigs), index.fetch)

    def _all(self) -> Iterator[tuple[str, int | None]]:
        in_header = True
        with open_text(self.path, self.compressed) as handle:
            for number_of_line, line in enumerate(handle, start=1):
                if in_header:
                    in_header = not line.startswith("#CHROM")
                    continue
                yield line.rstrip("\r\n"), number_of_line

    def indexed_contigs(self) -> list[str] | None:
        return None if self._index is None else list(self._index.contigs)

    @cached_property
    def _index(self) -> pysam.TabixFile | None:
        """The open index; None without one that can be believed."""
        file = usable_index(self.path, "vcf", self.trust_index) if self.blocked else None
        if file is None:
            return None

        def opened() -> pysam.TabixFile:
            return pysam.TabixFile(htslib_name(self.path), index=htslib_name(file), encoding="latin-1")

        if crashes(opened):  # as htslib does at some damaged indexes
            return None
        try:
            return opened()
        except (OSError, ValueError):
            return None


class BcfLines(RecordLines):
    def __init__(self, variants: pysam.VariantFile, has_usable_index: bool) -> None:
        self.variants, self.has_usable_index = variants, has_usable_index

    def __call__(self, spans: Sequence[Span] | None) -> Iterator[tuple[str, int | None]]:
        is_sought = self.has_usable_index and not _are_many(spans, Path(os.fsdecode(self.variants.filename)))
        index = self.variants.index if is_sought else None
        if spans is None or index is None:
            self.variants.reset()
            for record in self.variants:
                yield str(record).rstrip("\n"), None
        else:
            yield from _in_spans(spans, set(index), lambda *span: map(str, self.variants.fetch(*span)))

    def indexed_contigs(self) -> list[str] | None:
        return list(self.variants.index) if self.has_usable_index and self.variants.index is not None else None


def _are_many(spans: Sequence[Span] | None, path: Path) -> bool:
    """Say whether reading a file through takes no longer than looking up so many spans, as on thousands of contigs."""
    return spans is not None and len(spans) > 1 and path.stat().st_size < _BYTES_A_LOOK_UP * len(spans)


def _in_spans(
    spans: Sequence[Span], known: Collection[str], fetch: Callable[[str, int, int], Iterable[str]]
) -> Iterator[tuple[str, None]]:
    """Yield the lines near spans; a record that reaches into several comes once, with the first."""
    contig, done = "", 0
    for name, start, end in spans:
        if name not in known:
            continue
        done, contig = done if name == contig else 0, name
        for text in fetch(name, start, end):
            fields = text.split("\t", 2)
            if len(fields) < 2 or not fields[1].isdecimal() or int(fields[1]) > done:
                yield text.rstrip("\r\n"), None
        done = end


def index_of(path: Path, trusted: bool = False) -> Path | None:
    """Return the index beside a bgzipped file, unless it is older than the file and not trusted, or None."""
    for suffix in (".tbi", ".csi"):
        index = Path(f"{path}{suffix}")
        if index.is_file() and (trusted or index.stat().st_mtime >= path.stat().st_mtime):
            return index
    return None


def open_bcf(path: Path, with_index: bool, blocked: bool = True) -> pysam.VariantFile:
    """Open a BCF; an index that is not to be used is kept from htslib, whose memory a damaged one may overwrite.

    Parameters
    ----------
    blocked : whether it is compressed with bgzip; pysam seeks in no other, and crashes in one that is not compressed
    """
    if not blocked:
        with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
            packed = Path(folder) / "packed.bcf"
            with open_binary(path) as plain, pysam.BGZFile(str(packed), "wb") as handle:
                shutil.copyfileobj(plain, handle)
            return pysam.VariantFile(str(packed))
    # htslib takes NAME.csi, too, for the index of NAME.bcf.
    if with_index or (index_of(path, trusted=True) is None and not path.with_suffix(".csi").is_file()):
        return pysam.VariantFile(htslib_name(path))
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        alone = Path(folder) / "alone.bcf"
        alone.symlink_to(htslib_name(path))
        return pysam.VariantFile(str(alone))


def close_bcf(variants: pysam.VariantFile) -> None:
    with suppress(OSError):  # what was wrong with a damaged file has been said
        variants.close()


def usable_index(path: Path, records: Records, trusted: bool) -> Path | None:
    """Return the index beside a file if it is the file's: else nothing where it was not trusted.

    Raises
    ------
    FedcallError
        If a trusted index would leave out records of the file.
    """
    index = index_of(path, trusted)
    if index is None:
        return None
    try:
        check_index(index, path, records)
    except UnfaithfulIndexError as error:
        if not trusted:
            return None
        kind = "--csi" if index.suffix == ".csi" else "--tbi"
        raise FedcallError(f"{index}: the index {error}; make it again with: bcftools index {kind} -f {path}") from None
    return index


def refuse_truncated(path: Path) -> None:
    with open(path, "rb") as handle:
        handle.seek(0, io.SEEK_END)
        handle.seek(max(0, handle.tell() - len(EOF_BLOCK)))
        if handle.read() != EOF_BLOCK:
            raise FedcallError(f"{path}: truncated, the end-of-file block is missing; copy or make the file again")


def first_bytes(path: Path) -> bytes:
    with gzip.open(path, "rb") as handle:
        return handle.read(64)


def open_text(path: Path, compressed: bool) -> io.TextIOWrapper:
    # Whatever the encoding of a description or a name: it passes through unchanged.
    if compressed:
        return io.TextIOWrapper(gzip.GzipFile(path, "rb"), encoding="utf-8", errors="surrogateescape", newline="\n")
    return open(path, encoding="utf-8", errors="surrogateescape", newline="\n")
