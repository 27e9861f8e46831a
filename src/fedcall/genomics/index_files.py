"""Names of files for htslib, and which are the indexes of others: names alone, so that planning imports no htslib."""

import os
from pathlib import Path


def htslib_name(path: Path | str) -> str:
    """Return a path as htslib takes it for a file, whatever it is called: never for an option, and never for a URL."""
    return os.path.abspath(path)


def alignment_index(alignments: Path) -> Path | None:
    """Return the index beside a BAM or CRAM file, under any of the names that htslib looks for; None without one."""
    beside = [Path(f"{alignments}{suffix}") for suffix in (".bai", ".csi", ".crai")]
    beside += [alignments.with_suffix(suffix) for suffix in (".bai", ".csi", ".crai")]
    return next((index for index in beside if index.is_file()), None)


def reference_indexes(reference: Path) -> list[Path]:
    """Return the indexes that a FASTA file needs, there or not: the `.fai`, and of a bgzipped one the `.gzi`."""
    suffixes = (".fai", ".gzi") if reference.suffix in {".gz", ".bgz"} else (".fai",)
    return [Path(f"{reference}{suffix}") for suffix in suffixes]
