"""Images that cannot be decoded: in training others replace them, and evaluation may skip them."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from convolve.data.sources.source import Source
from convolve.errors import DataError

T = TypeVar("T")
MOST_NAMED = 20  # damaged images in one message
_TABLE = "the table of the others that `convolve check-data DATA --write-table FILE` writes"
_WAY_OUT = f"fix them, or train on {_TABLE}"


class Damaged:
    """The damaged images found so far; at most `limit`. `tell` is called once for each. Threads may share one."""

    def __init__(self, limit: int, tell: Callable[[str], None]) -> None:
        self.limit = limit
        self._tell = tell
        self._found: dict[int, str] = {}  # by number
        self._lock = threading.Lock()

    @property
    def numbers(self) -> set[int]:
        return {*self._found}

    def note(self, index: int, error: DataError) -> None:
        """Record that image `index` is damaged. Raises `DataError` naming them all if there are more than allowed."""
        with self._lock:
            if index in self._found:
                return
            self._found[index] = str(error)
            if len(self._found) > self.limit:
                raise self._too_many()
            self._tell(f"{error}; another image replaces it")

    def _too_many(self) -> DataError:
        errors = list(self._found.values())
        more = f" and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
        return DataError(
            f"{len(errors)} training images are damaged, but data.damaged_limit allows only {self.limit}: "
            f"{'; '.join(errors[-MOST_NAMED:])}{more}; {_WAY_OUT}"
        )


class Unreadable:
    """Unreadable images that cannot be replaced: when all are known, an error names them. Up to `limit` of them are
    skipped instead, and `tell` is called once. `way_out` ends the error.
    """

    def __init__(
        self, limit: float = 0, tell: Callable[[str], None] = lambda message: None, way_out: str = _WAY_OUT
    ) -> None:
        self.limit, self.way_out = limit, way_out
        self.numbers: set[int] = set()
        self._tell, self._is_told = tell, False
        self._named: dict[int, tuple[str, str]] = {}  # the first ones

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def are_too_many(self) -> bool:
        return len(self) > self.limit

    def note(self, number: int, location: str, error: object) -> None:
        """Record that image `number`, at `location`, cannot be read; `error` is a sentence that names it."""
        if number not in self.numbers and len(self._named) < MOST_NAMED:
            self._named[number] = (location, str(error))
        self.numbers.add(number)

    def require(self, count: int) -> None:
        """Raise `DataError` if more of `count` images cannot be read than may be skipped, or none can."""
        if self.are_too_many or (self.numbers and len(self) == count):
            raise self.error(count)
        if self.numbers and not self._is_told:
            self._is_told = True
            self._tell(f"{self._summary(count)}; skipped: the error is over the other {count - len(self):,}")

    def error(self, count: int) -> DataError:
        """The error message for `count` images."""
        return DataError("; ".join(filter(None, (self._summary(count), self.way_out))))

    def _summary(self, count: int) -> str:
        """The error of the first one, and where the others are."""
        (_, first), *others = self._named.values()
        if len(self) == 1:
            return first
        names = "; ".join(location for location, _ in others)
        more = f" and {len(self) - len(self._named):,} more" if len(self) > len(self._named) else ""
        return f"{len(self):,} of {count:,} images are damaged or missing: {first}; {names}{more}"


class Noted(Unreadable):
    """The unreadable images of some batches, recorded only; the caller decides what to do."""

    def __init__(self) -> None:
        super().__init__(math.inf)

    def require(self, count: int) -> None:
        pass

    def among(self, numbers: Iterable[int]) -> list[tuple[int, str, str]]:
        """The records about some images; a text is empty if it will not be needed."""
        return [(number, *self._named.get(number, ("", ""))) for number in numbers if number in self.numbers]


def skipping(skip: bool, tell: Callable[[str], None]) -> Unreadable:
    """For test images: with `skip`, all that cannot be read are skipped."""
    return Unreadable(math.inf if skip else 0, tell, f"fix them, skip them with --skip-unreadable, or take {_TABLE}")


class Failure(NamedTuple):
    """Image `number` cannot be read."""

    number: int
    error: DataError


def caught(ready: Callable[[int], T], number: int) -> T | Failure:
    """The result of `ready`, or its error as a Failure."""
    try:
        return ready(number)
    except DataError as error:
        return Failure(number, error)


def readable(
    found: Iterator[T | Failure], size: int, unreadable: Unreadable | None, source: Source
) -> Iterator[list[T]]:
    """The `found` images, `size` at a time. Failures are raised at once, or recorded as `unreadable` ones of `source`.
    Once the error at the end is certain, nothing more is yielded; the remaining failures are only collected for it.
    """
    while some := list(islice(found, size)):
        batch: list[T] = []
        for one in some:
            if not isinstance(one, Failure):
                batch.append(one)
            elif unreadable is None:
                raise one.error
            else:
                unreadable.note(one.number, source.location(one.number), one.error)
        if unreadable is None or isinstance(unreadable, Noted) or (batch and not unreadable.are_too_many):
            yield batch
    if unreadable is not None:
        unreadable.require(len(source))
