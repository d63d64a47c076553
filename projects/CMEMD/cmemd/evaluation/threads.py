"""Work in as many threads as there are cores, with BLAS in one thread each.

BLAS with threads of its own waits for all of them at each product, and several products at a time
get in each other's way: with other work on the machine, that costs several times the work itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["in_threads", "parts_of"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield the function's result for each item, in order; raise its first error."""
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
    ):
        yield from threads.map(function, items)


def parts_of(length: int, size: int) -> list[slice]:
    """Return slices of a length, each of a size but the last."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
