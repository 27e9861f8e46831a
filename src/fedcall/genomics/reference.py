"""Open an indexed reference, and find the contigs that another file shares with it."""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import file_stamp
from fedcall.genomics import pysam_settings  # noqa: F401
from fedcall.genomics.index_files import htslib_name, reference_indexes
from fedcall.genomics.reference_index import NAME_CHARACTERS, index_rows, refuse_stale_index
from fedcall.shown import shown


def reference_contigs(reference: Path) -> dict[str, int]:
    """Return the contigs of an indexed FASTA with their lengths in bases, in the file's order.

    Raises
    ------
    FedcallError
        If the file or one of its indexes (`.fai`; `.gzi` of a bgzipped file) is missing or not readable.
    """
    reference = Path(reference)
    if not reference.is_file():
        raise FedcallError(f"{reference}: no such reference")
    needed = reference_indexes(reference)
    index = needed[0]
    for file in needed:
        if not file.is_file():
            raise FedcallError(f"{reference}: index {file.name} is missing; make it with: samtools faidx {reference}")
    try:
        contigs = {name: int(length) for name, length, *_ in index_rows(index)}
    except ValueError:
        raise FedcallError(f"{index}: not a FASTA index; make it again with: samtools faidx {reference}") from None
    for name in contigs:
        if not name.isprintable():
            raise FedcallError(
                f"{reference}: contig '{shown(name, NAME_CHARACTERS)}' has characters in its name that are not"
                " printable, and no two programs read them alike; rename it there and in all files on this reference"
            )
    if not contigs:
        raise FedcallError(f"{index}: the index names no contig; make it again with: samtools faidx {reference}")
    return contigs


class Fasta(pysam.FastaFile):  # type: ignore[misc]  # pysam has no types for it
    """An open FASTA; bases that cannot be read are a mistake in the file, not of ours."""

    def fetch(self, *place: object, **options: object) -> str:
        """Return bases as `pysam.FastaFile.fetch` does."""
        try:
            bases: str = super().fetch(*place, **options)
            if not bases.isascii():
                raise ValueError("bytes that are no letters")
        except (ValueError, OSError) as error:
            where = ":".join(str(part) for part in (*place, *options.values()))
            raise FedcallError(
                f"{Path(os.fsdecode(self.filename))}: cannot be read at {where} ({error}); is it damaged?"
            ) from None
        return bases


def open_reference(reference: Path) -> pysam.FastaFile:
    """Open an indexed FASTA, plain or bgzipped, if the index is that of the file; the caller closes it.

    Raises
    ------
    FedcallError
        As of `reference_contigs` and `refuse_stale_index`.
    """
    reference_contigs(reference)
    try:
        refuse_stale_index(Path(reference))
        return Fasta(htslib_name(reference))
    except (OSError, ValueError) as error:
        raise FedcallError(
            f"{reference}: not a readable FASTA ({error}); plain or bgzipped (not gzipped) is needed"
        ) from None


def kept_reference(reference: Path) -> pysam.FastaFile:
    """Return an open FASTA to be asked for many stretches, open as long as this process asks for no other.

    Opening one reads its whole index, which is long where a genome lies in thousands of contigs.
    """
    name = os.fspath(reference)
    return _kept_reference(name, os.getpid(), _stamp(name), _stamp(f"{name}.fai"))


@lru_cache(maxsize=2)
def _kept_reference(reference: str, process: int, *stamps: tuple[int, int] | None) -> pysam.FastaFile:
    return open_reference(Path(reference))


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        return file_stamp(Path(file))
    except OSError:
        return None


def shared_contigs(
    path: Path, contigs: Mapping[str, int | None], reference: Path, wanted: Iterable[str] | None = None
) -> list[str]:
    """Return the contigs that `path` and the reference share, in the reference's order, after comparing lengths.

    Parameters
    ----------
    path : Path
        File the contigs were read from, for messages.
    contigs : mapping of str to int or None
        Its contigs with their lengths in bases, None where the file does not say.
    reference : Path
        Indexed FASTA.
    wanted : iterable of str, optional
        Only these matter, and each must be there.

    Raises
    ------
    FedcallError
        If a wanted contig is missing on one side, a length differs, or nothing is shared.
    """
    path = Path(path)
    known = reference_contigs(reference)
    if wanted is None:
        names = [name for name in known if name in contigs]
        if not names:
            raise FedcallError(
                f"{path}: no contig in common with {reference}"
                f" (found {some_of(contigs)}; reference has {some_of(known)})"
            )
    else:
        chosen = set(wanted)
        for name in sorted(chosen):
            said = shown(name, NAME_CHARACTERS)
            if name not in known:
                raise FedcallError(f"{reference}: no contig '{said}' (found {some_of(known)})")
            if name not in contigs:
                raise FedcallError(
                    f"{path}: no contig '{said}' (found {some_of(contigs)}); use the reference it was aligned to"
                )
        names = [name for name in known if name in chosen]
    for name in names:
        length = contigs[name]
        if length is not None and length != known[name]:
            raise FedcallError(
                f"{path}: contig '{shown(name, NAME_CHARACTERS)}' has {length} bases, but {known[name]} in {reference};"
                " use the reference it was aligned to"
            )
    return names


def some_of(names: Iterable[str]) -> str:
    """Return a few names of many, for an error message."""
    listed = list(names)
    some = ", ".join(shown(name, NAME_CHARACTERS) for name in listed[:4])
    return some + (f" and {len(listed) - 4} more" if len(listed) > 4 else "") if listed else "none"
