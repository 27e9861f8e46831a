"""Work on several stretches at a time, each worker in memory of its own that it uses again."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from fedcall.genomics.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")

_own = threading.local()


def side_by_side(
    work: Callable[[Workspace, Item], Result], items: Sequence[Item], threads: int, processes: bool = False
) -> Iterator[Result]:
    """Yield `work(workspace, item)` for all items, in their order.

    Parameters
    ----------
    threads : items worked on at a time
    processes : in a process each. Threads share memory and start at once, and kernels and inflation run beside each
        other in them; but samtools runs one command at a time in a process.
    """
    workers = min(threads, len(items))
    if workers <= 1:
        yield from map(partial(work, Workspace()), items)
        return
    pool: Executor
    if processes:
        pool = ProcessPoolExecutor(workers, get_context("fork"), _begin)
    else:
        pool = ThreadPoolExecutor(workers, initializer=_begin)
    with pool:
        yield from pool.map(partial(_in_own_workspace, work), items)


def _begin() -> None:
    _own.workspace = Workspace()


def _in_own_workspace(work: Callable[[Workspace, Item], Result], item: Item) -> Result:
    return work(_own.workspace, item)
