"""The workers that share one long command, seen from one of them; here one alone. distributed/parts.py has several."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class Team:
    """Worker `rank` of `size`. All run the same code in the same order; worker 0 alone writes what the user gets.

    `threads`: this worker's part of the host's cores; 0: all.
    """

    rank, size, threads = 0, 1, 0

    def begin(self, question: Callable[[], Mapping[str, str]], beside: Path | None = None) -> None:
        """All are asked the same `question()`. What they find out is kept for the next command that asks it: beside a
        file that will be written, else in the cache. One alone keeps nothing."""

    def blocks(
        self,
        name: str,
        items: int,
        step: int,
        compute: Callable[[range], Iterator[T]],
        *,
        start: int = 0,
        for_all: bool = True,
    ) -> Iterator[T]:
        """What `compute` yields for a range of `items`: a value for each `step` of them, in their order.

        The limits of a range are multiples of `step`, but for the end. Values are plain: tuples, lists, dicts, texts,
        numbers, bytes and numpy arrays. `name`: what is counted, for people. `start`: where worker 0 wants to begin;
        that of others does not matter. `for_all`: not worker 0 alone gets the values.
        """
        del name, step, for_all
        return compute(range(start, items))


ALONE = Team()
