"""Folders with patients' data, updates or keys: for their owner alone, whatever the umask, checked before any job."""

import stat
from collections.abc import Iterator
from pathlib import Path

from fedcall.files import make_private_folder
from fedcall.workflow.run import Run

_SNAKEMAKES = Path(".snakemake")  # made anew by every first run, so mending it tells nobody anything
_OF_JOBS = (*map(Path, ("results", "logs", "benchmarks")), _SNAKEMAKES)  # of the working directory


def protect_folders(run: Run) -> list[str]:
    """Make a hospital's folders with mode 0700, and mend those that others may enter; return what was mended.

    A rehearsal is for data that anybody may see; only keys and ledger are kept from others there.

    Raises
    ------
    FedcallError
        If others may enter a folder that is not ours to mend.
    """
    mended = []
    for folder in dict.fromkeys(_folders(run)):
        if folder == Path():  # whoever keeps the ledger in the working directory knows who may enter that
            continue
        before = stat.S_IMODE(folder.stat().st_mode) if folder.exists() else 0o700
        make_private_folder(folder)
        if before & 0o077 and folder != _SNAKEMAKES:
            mended.append(f"{folder}: is for its owner alone now (mode was {before:04o}, 0700 is)")
    return mended


def _folders(run: Run) -> Iterator[Path]:
    if not run.is_rehearsal or run.charges_for_good:
        yield from _OF_JOBS
    for site in run.sites:
        yield Path(run.config.ledger.format(site=site)).parent
        yield Path(run.config.sketches.format(site=site))
        if run.is_rehearsal:  # a hospital has made its keys before
            continue
        yield Path(run.config.site_key.format(site=site))
    if run.config.handover is not None and run.config.handover.exists():
        yield run.config.handover
