"""Run samtools and bcftools (pysam carries both) in a child process, with one-line errors."""

import multiprocessing
import os
import re
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import pysam
import pysam.bcftools
import pysam.samtools

from fedcall.errors import FedcallError
from fedcall.genomics import pysam_settings  # noqa: F401

FORK = multiprocessing.get_context("fork")
Tool = Literal["samtools", "bcftools"]


def run_samtools(path: Path, command: str, arguments: list[str]) -> None:
    """Run a samtools command that writes to a file; `path` is the user's file, for the message."""
    _run("samtools", path, command, arguments)


def run_bcftools(path: Path, command: str, arguments: list[str]) -> None:
    """Run a bcftools command that writes to a file; `path` is the user's file, for the message."""
    _run("bcftools", path, command, arguments)


def _run(module: Tool, path: Path, command: str, arguments: list[str]) -> None:
    # On a full disk some samtools commands (1.24: collate) die of a segmentation fault; only the child does, then.
    parent, child = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_call, args=(child, module, command, arguments))
    process.start()
    child.close()
    try:
        said = parent.recv()
    except EOFError:
        said = None
    process.join()
    parent.close()
    if said is None:
        raise FedcallError(
            f"{path}: cannot be processed ({command} died, exit code {process.exitcode}); is the disk or memory full?"
        )
    if said:
        raise FedcallError(
            f"{path}: cannot be processed ({command}: {_reason(said)}); is the file damaged, or the disk full?"
        )


def _call(sender: Connection, module: Tool, command: str, arguments: list[str]) -> None:
    """Run one command and send what it said when it failed, or nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # pysam catches what tools say; this is for the C library's last words
    try:
        getattr(getattr(pysam, module), command)(*arguments, catch_stdout=False)
        sender.send("")
    except pysam.SamtoolsError as error:
        sender.send(str(error) or "failed")


def _reason(message: str) -> str:
    """Return the last thing a tool said, on one line and without pysam's wrapping."""
    said = re.search(r"stderr=(.*)", message, re.DOTALL)
    text = (said.group(1) if said else message).replace("\\n", "\n").strip("'\" \n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"/\S*/\.[^\s/]+/", "", lines[-1]) if lines else "stopped without a reason"
