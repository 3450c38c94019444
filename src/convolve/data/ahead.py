"""Work done ahead of time by threads: in order, and never more than a set number of results at once in memory.

Threads suffice: reading, decoding and the arithmetic on images all release Python's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_END = object()


def in_order(work: Callable[[int], T], numbers: Iterable[int], threads: int, ahead: int) -> Generator[T, None, None]:
    """`work` of each number, in their order; at most `ahead` are begun and not yet taken."""
    rest = iter(numbers)
    with ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(work, number) for number in islice(rest, ahead))
        try:
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(work, number) for number in islice(rest, 1))
                yield result
        finally:
            _give_up(begun)


def prefetch(items: Generator[T, None, None], ahead: int) -> Generator[T]:
    """`items`, made by a thread of its own while the last one is in use; up to `ahead` wait to be taken."""
    with closing(items), ThreadPoolExecutor(1) as pool:  # in this order: `items` is closed when nobody uses it any more
        begun: deque[Future[T | object]] = deque(pool.submit(next, items, _END) for _ in range(ahead))
        try:
            while (item := begun.popleft().result()) is not _END:
                begun.append(pool.submit(next, items, _END))
                yield item  # type: ignore[misc]  # T, since it is not _END
        finally:
            _give_up(begun)


def _give_up(begun: Iterable[Future[T]]) -> None:
    for future in begun:
        future.cancel()
