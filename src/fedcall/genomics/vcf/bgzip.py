"""Write VCF text as a bgzipped file with a tabix index, both whole or not at all, and byte-reproducible."""

from collections.abc import Iterable
from pathlib import Path

import pysam

from fedcall.files import atomic_path


def index_path(path: Path) -> Path:
    """Return the path of the tabix index that belongs to a bgzipped VCF."""
    return Path(f"{path}.tbi")


def write_vcf(path: Path, lines: Iterable[str]) -> None:
    """Write VCF lines (header and sorted records, without line ends) to `path`, and its index beside it.

    The compressed bytes depend on the lines only: BGZF blocks hold no time and no name.
    """
    path = Path(path)
    # The index is made after the file and renamed after it, so that htslib never finds it older than its file.
    with atomic_path(index_path(path)) as index, atomic_path(path) as temporary:
        with pysam.BGZFile(str(temporary), "w") as handle:
            for line in lines:
                handle.write(line.encode() + b"\n")
        pysam.tabix_index(str(temporary), preset="vcf", index=str(index), force=True)
