"""Rounds that are over for the sites of a run, which do not depend on the present sheet of patients."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

FILES = ("global.safetensors", "update.safetensors", "claim.json", "receipt.json")


def settled_rounds(results: Path, sites: Sequence[str], rounds: Iterable[int]) -> list[int]:
    """Return the rounds of which every site has all files: model, update, claim and receipt.

    A round of which one was deleted is not settled: its release and its receipt come back from ledger and aggregator.
    """
    return [
        number
        for number in rounds
        if all((results / site / "rounds" / str(number) / name).is_file() for site in sites for name in FILES)
    ]


# Of Snakemake: what reports on all jobs there were, and what asks for jobs to run again.
_OF_ALL_JOBS: tuple[str, ...] = (
    "--report",
    "--summary",
    "--detailed-summary",
    "--generate-unit-tests",
    "--archive",
    "--delete-all-output",
)
_OF_ALL_JOBS += ("--list", "--dag", "--filegraph", "--force", "--touch")
_SHORT = ("-D", "-S", "-F", "-f", "-R", "-t")


def asks_for_all_rounds(arguments: Iterable[str]) -> bool:
    """Say whether Snakemake's arguments report on all jobs, force them, or name a file of a round.

    >>> asks_for_all_rounds(["snakemake", "--cores", "1"])
    False
    >>> asks_for_all_rounds(["snakemake", "--forceall"])
    True
    """
    return any(
        one.startswith(_OF_ALL_JOBS) or one in _SHORT or re.search(r"/rounds/[0-9]+/", one) is not None
        for one in arguments
    )


def other_rounds(settled: Sequence[int]) -> str:
    """Return a regular expression of all round numbers but these, for a wildcard constraint.

    >>> other_rounds([])
    '[1-9][0-9]*'
    >>> other_rounds([1, 2])
    '(?!(?:1|2)(?![0-9]))[1-9][0-9]*'
    """
    if not settled:
        return "[1-9][0-9]*"
    return f"(?!(?:{'|'.join(map(str, settled))})(?![0-9]))[1-9][0-9]*"
