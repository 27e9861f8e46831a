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
    """Return the index beside a BAM or CRAM file that htslib takes; None without one."""
    # In the order in which htslib looks.
    return next((index for suffix in _suffixes(alignments) for index in _beside(alignments, suffix)), None)


def alignment_indexes(alignments: Path) -> list[Path]:
    """Return every index beside a BAM or CRAM file that is read of it: htslib's choice, and the `.bai` read here."""
    chosen = alignment_index(alignments)
    own = _beside(alignments, ".bai") if ".bai" in _suffixes(alignments) else []
    return [] if chosen is None else list(dict.fromkeys([chosen, *own[:1]]))


def _suffixes(alignments: Path) -> tuple[str, ...]:
    # Of a file that is not there, or is none, both kinds are looked for.
    start = b""
    if os.path.isfile(alignments):
        with open(alignments, "rb") as handle:
            start = handle.read(4)
    bam, cram = start[:2] == b"\x1f\x8b", start == b"CRAM"
    return (*((".csi", ".bai") if not cram else ()), *((".crai",) if not bam else ()))


def _beside(alignments: Path, suffix: str) -> list[Path]:
    names = (Path(f"{alignments}{suffix}"), Path(alignments).with_suffix(suffix))
    return [name for name in names if name.is_file()]


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
