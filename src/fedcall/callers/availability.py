"""What would stop a caller after hours and can be seen in a moment: a tool that is missing, reads it does not take."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from fedcall.callers.catalogue import CATALOGUE, CallerName
from fedcall.errors import FedcallError
from fedcall.genomics.reads.opening import open_alignments, samples_of


def refuse_missing(callers: Sequence[CallerName], supplied: Collection[str] = (), place: str = "callers") -> None:
    """Refuse callers whose command is not on PATH and that nothing supplies.

    Parameters
    ----------
    supplied : ways of `snakemake --sdm` in use: "conda", "apptainer"
    place : where the callers are named, for the message

    Raises
    ------
    FedcallError
        Naming the first that is missing, and the ways to have it.
    """
    for name in callers:
        missing = missing_line(name, supplied)
        if missing is not None:
            raise FedcallError(f"{place}: {missing}")


def missing_line(name: CallerName, supplied: Collection[str] = ()) -> str | None:
    """Return one line about a caller that is missing; None if it is there or supplied."""
    caller = CATALOGUE[name]
    if caller.command is None or caller.supplied_by in supplied or shutil.which(caller.command):
        return None
    return (
        f"caller '{name}' needs the command '{caller.command}', which is not on PATH; run snakemake with"
        f" --sdm {caller.supplied_by}, which supplies it, install it, or leave '{name}' out"
    )


def refuse_reads(patient: str, alignments: Path | None, reference: Path, callers: Sequence[CallerName]) -> None:
    """Refuse reads that one of the callers does not take for want of a read group.

    Parameters
    ----------
    alignments : None where the workflow has yet to make them; it gives them a read group
    """
    for name in callers:
        if not CATALOGUE[name].needs_read_groups or alignments is None or not alignments.is_file():
            continue
        with open_alignments(alignments, reference) as reads:
            named = samples_of(reads)
        if not named:
            raise FedcallError(
                f"{alignments}: no read group that names a sample (@RG with SM), which caller '{name}' needs;"
                f" add one with: samtools addreplacerg -r ID:{patient} -r SM:{patient}"
            )
