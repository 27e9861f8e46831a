"""Write VCF text as a bgzipped file with an index, both whole or not at all, and byte-reproducible."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pysam

from fedcall.files import atomic_path
from fedcall.genomics.index_files import htslib_name, needs_csi

_LENGTH = re.compile(r"##contig=<.*[<,]length=([0-9]+)")


def index_path(path: Path) -> Path:
    """Return the path of the tabix index that belongs to a bgzipped VCF."""
    return Path(f"{path}.tbi")


def write_vcf(path: Path, lines: Iterable[str], csi: bool | None = None) -> None:
    """Write VCF lines (header and sorted records, without line ends) to `path`, and its index beside it.

    The compressed bytes depend on the lines only: BGZF blocks hold no time and no name.

    Parameters
    ----------
    csi : whether the index is a `.csi`, and not a `.tbi`; None: where the header names a contig too long for one
    """
    path = Path(path)
    header, records = _split(lines)
    if csi is None:
        csi = needs_csi(int(found[1]) for line in header if (found := _LENGTH.match(line)))
    wanted, other = (Path(f"{path}{suffix}") for suffix in ((".csi", ".tbi") if csi else (".tbi", ".csi")))
    # The index is made after the file and renamed after it, so that htslib never finds it older than its file.
    with atomic_path(wanted) as index, atomic_path(path) as temporary:
        with pysam.BGZFile(htslib_name(temporary), "w") as handle:
            for line in chain(header, records):
                handle.write(line.encode(errors="surrogateescape") + b"\n")
        pysam.tabix_index(htslib_name(temporary), preset="vcf", index=htslib_name(index), force=True, csi=csi)
        other.unlink(missing_ok=True)  # of an earlier file of this name: htslib would take it for this one's


def _split(lines: Iterable[str]) -> tuple[list[str], Iterator[str]]:
    """Return the lines up to the first record, and the rest."""
    rest = iter(lines)
    header: list[str] = []
    for line in rest:
        if not line.startswith("#"):
            return header, chain([line], rest)
        header.append(line)
    return header, rest
