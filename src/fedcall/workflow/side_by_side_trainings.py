"""Train the sites of a rehearsal in one command: PyTorch and Opacus take longer to start than a small site to train.

What a site charges, trains and writes is what a command of its own would charge, train and write, byte for byte: each
has its own keys, ledger and files, and a process works on one site after another. At a hospital there is one site, and
no process but this.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.federation.child import die_with

if TYPE_CHECKING:
    from fedcall.training.rounds import RoundOutcome

Train = Callable[[str], "RoundOutcome"]


def train_sites(
    train: Train, sites: Sequence[str], processes: int, on_site: Callable[[], object] = lambda: None
) -> list[tuple[str, "RoundOutcome"]]:
    """Call `train` for every site and return the outcomes, in the order of the sites.

    A site that fails stops no other: what the others charged and released lies in their ledgers, and the same command
    again returns it, the same bytes, charging nothing.

    Parameters
    ----------
    train : callable
        Trains the named site; in another process if there are several of both.
    processes : int
        How many sites are trained at a time, at most.
    on_site : callable
        Called after each site.

    Raises
    ------
    PrivacyRefusal, FedcallError
        Names every site that failed and why; a refusal if one of them was refused.
    """
    if len(sites) == 1:
        return [(sites[0], train(sites[0]))]
    outcomes: dict[str, RoundOutcome] = {}
    errors: dict[str, Exception] = {}
    if processes == 1:
        for site in sites:
            try:
                outcomes[site] = train(site)
            except Exception as error:
                errors[site] = error
            on_site()
    else:
        _in_processes(train, sites, min(processes, len(sites)), on_site, outcomes, errors)
    _raise(errors)
    return [(site, outcomes[site]) for site in sites]


def _in_processes(
    train: Train,
    sites: Sequence[str],
    processes: int,
    on_site: Callable[[], object],
    outcomes: "dict[str, RoundOutcome]",
    errors: dict[str, Exception],
) -> None:
    # What the command imported is inherited through the fork; nothing has computed yet, so no thread is lost.
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (train, os.getpid())) as pool:
        running = {pool.submit(_train, site): site for site in sites}
        for done in as_completed(running):
            site, error = running[done], done.exception()
            if error is None:
                outcomes[site] = done.result()
            elif isinstance(error, BrokenProcessPool):
                errors[site] = FedcallError(
                    "its process was killed; run the same command again: nothing is charged twice"
                )
            elif isinstance(error, Exception):
                errors[site] = error
            else:
                raise error
            on_site()


_inherited: Train


def _begin(train: Train, parent: int) -> None:
    global _inherited
    die_with(parent)  # killed with the command: a rerun must not meet a training that still goes on
    _inherited = train


def _train(site: str) -> "RoundOutcome":
    return _inherited(site)


def _raise(errors: dict[str, Exception]) -> None:
    """Raise what went wrong: a bug of ours or of the system's as it is, else one line for all sites."""
    for error in errors.values():
        if not isinstance(error, FedcallError):
            raise error
    if errors:
        refused = any(isinstance(error, PrivacyRefusal) for error in errors.values())
        told = "; ".join(f"site '{site}': {error}" for site, error in sorted(errors.items()))
        raise (PrivacyRefusal if refused else FedcallError)(told)
