"""Work done ahead of time by threads: in order, with a limited number of results in memory.

Threads suffice: reading, decoding and the arithmetic on images all release Python's lock.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

TRIED = 8  # results that show how long the work takes
WORTH_A_THREAD = 150e-6  # seconds, of an image

T = TypeVar("T")
_END = object()


def ordered_map(
    work: Callable[[int], T], numbers: Iterable[int], threads: int, ahead: int, images: int = 1
) -> Generator[T, None, None]:
    """`work` of each number, that of so many `images`, in their order; at most `ahead` are begun and not yet taken.

    Short work is done by the caller's thread: threads share one interpreter lock, and waiting for it costs more than
    reading and decoding a small image (docs/experiments.md).
    """
    rest = iter(numbers)
    seconds: list[float] = []
    for number in islice(rest, TRIED):
        start = time.perf_counter()
        result = work(number)
        seconds.append(time.perf_counter() - start)
        yield result
    usual = sorted(seconds)[len(seconds) // 4] if seconds else 0.0  # the first ones take longer
    if threads > 1 and usual > images * WORTH_A_THREAD:
        yield from _in_threads(work, rest, threads, ahead)
    else:
        yield from map(work, rest)


def _in_threads(work: Callable[[int], T], numbers: Iterator[int], threads: int, ahead: int) -> Generator[T, None, None]:
    """A thread takes several numbers at a time where there is room for that: to hand one over is not free either."""
    at_once = max(1, ahead // (4 * threads))
    pieces = iter(lambda: list(islice(numbers, at_once)), [])
    with ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(_each, work, piece) for piece in islice(pieces, max(1, ahead // at_once - 1)))
        try:
            while begun:
                results, error = begun.popleft().result()
                begun.extend(pool.submit(_each, work, piece) for piece in islice(pieces, 1))
                yield from results
                if error:
                    raise error
        finally:
            _give_up(begun)


def _each(work: Callable[[int], T], numbers: list[int]) -> tuple[list[T], Exception | None]:
    """Results up to the first error, and that."""
    results: list[T] = []
    try:
        for number in numbers:
            results.append(work(number))
    except Exception as error:
        return results, error
    return results, None


def prefetch(items: Generator[T, None, None], ahead: int) -> Generator[T]:
    """`items`, made by a separate thread while the last one is in use; up to `ahead` are waiting."""
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
