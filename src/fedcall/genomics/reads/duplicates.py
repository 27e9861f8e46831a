"""What a file tells about PCR duplicates: whether a program marked them, and which tag holds the reads' UMIs."""

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath

import pysam

from fedcall.genomics.reads.opening import open_alignments

# Programs and subcommands that mark duplicates, as they name themselves in @PG lines, in lower case.
MARKERS = frozenset(
    (
        *("markduplicates", "markduplicatesspark", "markduplicateswithmatecigar"),
        *("umiawaremarkduplicateswithmatecigar", "markdup", "samblaster", "streammd"),
        *("bammarkduplicates", "bammarkduplicates2", "bammarkduplicatesopt", "bamsormadup"),
    )
)
_TOOLBOXES = ("samtools", "sambamba", "picard", "gatk", "pysam")
_COPY = re.compile(r"[-._][0-9A-Za-z]{1,8}")
"""What samtools and Picard put behind the ID of a program that stands in a header twice."""
_UMI_TAGS = ("MI", "RX")
"""The molecule that a tool found behind similar UMIs, or the UMI as it was read (SAM optional fields, section 1.4)."""
_READS_LOOKED_AT = 1_000
_NOT_PRIMARY = 0x904


def duplicates_are_marked(header: pysam.AlignmentHeader) -> bool:
    """Say whether a program that marks duplicates ran on the file: by its name or its subcommand, nothing else.

    Such a word in a folder's name, a file's name or a description says nothing.
    """
    return any(_marks_duplicates(program) for program in header.to_dict().get("PG", []))


def umi_tag(path: Path, reference: Path) -> str | None:
    """Return the tag that tells molecules apart, if all of a file's first reads have it.

    None, too, of a file that cannot be read: whoever reads all of it says where it is damaged.
    """
    try:
        with open_alignments(path, reference, text=True) as alignments:
            reads = (read for read in alignments.fetch(until_eof=True) if not read.flag & _NOT_PRIMARY)
            first = list(islice(reads, _READS_LOOKED_AT))
    except (OSError, ValueError):
        return None
    return next((tag for tag in _UMI_TAGS if first and all(read.has_tag(tag) for read in first)), None)


def _marks_duplicates(program: Mapping[str, str]) -> bool:
    names = [str(program.get(key, "")).lower() for key in ("PN", "ID")]
    words = [word for name in names for word in name.split()]
    if any(word in MARKERS or _is_copy(word) for word in words):
        return True
    command = str(program.get("CL", "")).split()
    if not command:
        return False
    first = PurePosixPath(command[0]).name.lower()
    if first == "java":
        jar = command.index("-jar") if "-jar" in command else len(command)
        command = command[jar + 2 :]
    elif first.startswith(_TOOLBOXES):
        command = command[1:]
    elif first in MARKERS:
        return True
    subcommand = next((word for word in command if not word.startswith("-")), "")
    return subcommand.lower() in MARKERS


def _is_copy(word: str) -> bool:
    return any(word.startswith(marker) and _COPY.fullmatch(word[len(marker) :]) is not None for marker in MARKERS)
