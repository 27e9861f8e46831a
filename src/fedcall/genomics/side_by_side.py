"""Work on several stretches at a time, each worker in memory of its own that it uses again."""

import gc
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any, TypeVar

from fedcall.genomics.reads.workspace import Workspace

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Workspace, Item], Result],
    items: Sequence[Item],
    workers: int,
    on_started: Callable[[int], object] = lambda count: None,
) -> list[Result]:
    """Return `work(workspace, item)` for all items, in their order.

    This process is one of the workers: its memory is warm already, and nothing of its share passes a pipe.

    Parameters
    ----------
    workers : items worked on at a time, in a process each: in threads, what is left of Python between kernels and
        inflation takes turns, and samtools runs one command at a time in a process
    on_started : told after each item of this process how many items are done or being worked on, by anybody
    """
    others = min(workers, len(items)) - 1
    context = get_context("fork")
    turn = context.Value("q", 0)
    if others < 1:
        return [result for _, result in _take_turns(work, items, turn, on_started)]
    from concurrent.futures import ProcessPoolExecutor  # not where one worker does all

    # What is there already is left alone by the others' collections: they would copy the pages it lies on.
    gc.freeze()
    try:
        with ProcessPoolExecutor(others, context, _inherit, (work, items, turn)) as pool:
            helping = [pool.submit(_help) for _ in range(others)]
            results = dict(_take_turns(work, items, turn, on_started))
            for helper in helping:
                results.update(helper.result())
    finally:
        gc.unfreeze()
    return [results[index] for index in range(len(items))]


def _take_turns(
    work: Callable[[Workspace, Item], Result],
    items: Sequence[Item],
    turn: Any,
    on_started: Callable[[int], object] = lambda count: None,
) -> list[tuple[int, Result]]:
    workspace = Workspace()
    results: list[tuple[int, Result]] = []
    while True:
        with turn.get_lock():
            index = turn.value
            turn.value += 1
        if index >= len(items):
            return results
        try:
            results.append((index, work(workspace, items[index])))
        except BaseException:
            turn.value = len(items)  # nobody starts what nobody will use
            raise
        on_started(min(turn.value, len(items)))


_inherited: tuple[Any, ...]


def _inherit(*share: Any) -> None:
    global _inherited  # through the fork: neither the items nor the turn are pickled
    _inherited = share


def _help() -> list[tuple[int, Any]]:
    return _take_turns(*_inherited)
