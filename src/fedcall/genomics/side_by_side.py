"""Work on several stretches at a time, each worker in memory of its own that it uses again."""

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from fedcall.genomics.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")

_workspace = Workspace()
"""Of a worker: a process has one of its own from its first write on."""


def side_by_side(work: Callable[[Workspace, Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yield `work(workspace, item)` for all items, in their order.

    Parameters
    ----------
    workers : items worked on at a time, in a process each: in threads, what is left of Python between kernels and
        inflation takes turns (1.5 times one thread, where processes reach 1.6 to 1.8), and samtools runs one command
        at a time in a process
    """
    if min(workers, len(items)) <= 1:
        yield from map(partial(work, Workspace()), items)
        return
    # What is there already is no garbage: collections in the workers would copy the pages it lies on.
    gc.collect()
    gc.freeze()
    try:
        with ProcessPoolExecutor(min(workers, len(items)), get_context("fork")) as pool:
            yield from pool.map(partial(_in_own_workspace, work), items)
    finally:
        gc.unfreeze()


def _in_own_workspace(work: Callable[[Workspace, Item], Result], item: Item) -> Result:
    return work(_workspace, item)
