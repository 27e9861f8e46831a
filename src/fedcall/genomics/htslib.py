"""Run samtools and bcftools inside this process (pysam carries both), with one-line errors."""

import re
from pathlib import Path

import pysam
import pysam.bcftools
import pysam.samtools

from fedcall.errors import FedcallError

# htslib writes its own lines to stderr; ours are the only ones a person should have to read.
pysam.set_verbosity(0)


def run_samtools(path: Path, command: str, arguments: list[str]) -> None:
    """Run a samtools command that writes to a file; `path` is the user's file, for the message."""
    _run(pysam.samtools, path, command, arguments)


def run_bcftools(path: Path, command: str, arguments: list[str]) -> None:
    """Run a bcftools command that writes to a file; `path` is the user's file, for the message."""
    _run(pysam.bcftools, path, command, arguments)


def _run(module: object, path: Path, command: str, arguments: list[str]) -> None:
    try:
        getattr(module, command)(*arguments, catch_stdout=False)
    except pysam.SamtoolsError as error:
        raise FedcallError(f"{path}: {_reason(command, str(error))}") from None


def _reason(command: str, message: str) -> str:
    """Return the last thing a tool said, on one line and without pysam's wrapping."""
    said = re.search(r"stderr=(.*)", message, re.DOTALL)
    text = (said.group(1) if said else message).replace("\\n", "\n").strip("'\" \n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = re.sub(r"/\S*/\.[^\s/]+/", "", lines[-1]) if lines else "stopped without a reason"
    return f"cannot be processed ({command}: {reason}); is the file damaged?"
