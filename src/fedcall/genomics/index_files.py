"""Names of files for htslib, and which are the indexes of others: names alone, so that planning imports no htslib."""

import os
from collections.abc import Iterable
from pathlib import Path

LONGEST_CONTIG = 1 << 29
"""Bases that a `.bai` or a `.tbi` can place (SAM specification v1, §5.2; Tabix); a longer contig needs a `.csi`."""


def htslib_name(path: Path | str) -> str:
    """Return a path as htslib takes it for a file, whatever it is called: never for an option, and never for a URL."""
    return os.path.abspath(path)


def alignment_index(alignments: Path) -> Path | None:
    """Return the index beside a BAM or CRAM file, under any of the names that htslib looks for; None without one."""
    beside = [Path(f"{alignments}{suffix}") for suffix in (".bai", ".csi", ".crai")]
    beside += [alignments.with_suffix(suffix) for suffix in (".bai", ".csi", ".crai")]
    return next((index for index in beside if index.is_file()), None)


def needs_csi(lengths: Iterable[int]) -> bool:
    """Say whether files on contigs of these lengths have indexes `.csi`, and not `.bai` and `.tbi`."""
    return max(lengths, default=0) > LONGEST_CONTIG


def reference_needs_csi(reference: Path) -> bool:
    """Say so of the contigs of a FASTA by its `.fai`; without one nothing is known, and it does not.

    What is no line of a `.fai` is passed over: the check of the reference refuses it and names it.
    """
    index = reference_indexes(reference)[0]
    rows = (line.split(b"\t") for line in index.read_bytes().splitlines()) if index.is_file() else ()
    return needs_csi(int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit() and len(row[1]) < 20)


def reference_indexes(reference: Path) -> list[Path]:
    """Return the indexes that a FASTA file needs, there or not: the `.fai`, and of a bgzipped one the `.gzi`."""
    suffixes = (".fai", ".gzi") if reference.suffix in {".gz", ".bgz"} else (".fai",)
    return [Path(f"{reference}{suffix}") for suffix in suffixes]
