"""Images that cannot be decoded: others stand in for them in training, and evaluation may leave them out."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from convolve.data.sources.source import Source
from convolve.errors import DataError

T = TypeVar("T")
MOST_NAMED = 20  # damaged images in one message
_WAY_OUT = "mend them, or train on the table of the others that `convolve check-data DATA --write-table FILE` writes"


class Damaged:
    """The damaged images that were met so far; at most `limit`. `tell` hears of each once. Threads may share one."""

    def __init__(self, limit: int, tell: Callable[[str], None]) -> None:
        self.limit = limit
        self._tell = tell
        self._found: dict[int, str] = {}  # by number
        self._lock = threading.Lock()

    @property
    def numbers(self) -> set[int]:
        return {*self._found}

    def note(self, index: int, error: DataError) -> None:
        """Image `index` is damaged. Raises `DataError` that names them all where that is one too many."""
        with self._lock:
            if index in self._found:
                return
            self._found[index] = str(error)
            if len(self._found) > self.limit:
                raise self._too_many()
            self._tell(f"{error}; another image stands in for it")

    def _too_many(self) -> DataError:
        errors = list(self._found.values())
        more = f" and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
        return DataError(
            f"{len(errors)} training images are damaged, data.damaged_limit allows {self.limit}: "
            f"{'; '.join(errors[-MOST_NAMED:])}{more}; {_WAY_OUT}"
        )


class Unreadable:
    """Images that cannot be read where none can stand in for them: when all of them are known, an error names them.

    Up to `limit` of them are left out instead, and `tell` hears of that once. `way_out` ends the error.
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
        """Image `number`, which lies at `location`, cannot be read; `error` says so in a sentence that names it."""
        if number not in self.numbers and len(self._named) < MOST_NAMED:
            self._named[number] = (location, str(error))
        self.numbers.add(number)

    def require(self, count: int) -> None:
        """Raise `DataError` where of `count` images more cannot be read than may be left out, or none can."""
        if self.are_too_many or (self.numbers and len(self) == count):
            raise self.error(count)
        if self.numbers and not self._is_told:
            self._is_told = True
            self._tell(f"{self._summary(count)}; left out: the error is that of the other {count - len(self):,}")

    def error(self, count: int) -> DataError:
        """What there is to say of `count` images."""
        return DataError("; ".join(filter(None, (self._summary(count), self.way_out))))

    def _summary(self, count: int) -> str:
        """The first one's error, and where others lie."""
        (_, first), *others = self._named.values()
        if len(self) == 1:
            return first
        names = "; ".join(location for location, _ in others)
        more = f" and {len(self) - len(self._named):,} more" if len(self) > len(self._named) else ""
        return f"{len(self):,} of {count:,} images are damaged or missing: {first}; {names}{more}"


class Noted(Unreadable):
    """Those of some batches, which come even if they are empty; what is to be done about them others say."""

    def __init__(self) -> None:
        super().__init__(math.inf)

    def require(self, count: int) -> None:
        pass

    def among(self, numbers: Iterable[int]) -> list[tuple[int, str, str]]:
        """What `note` was told of some images; a text is empty where it will not be needed."""
        return [(number, *self._named.get(number, ("", ""))) for number in numbers if number in self.numbers]


def skipping(skip: bool, tell: Callable[[str], None]) -> Unreadable:
    """For test images: `skip` leaves all of them out that cannot be read."""
    return Unreadable(math.inf if skip else 0, tell, "mend them, or leave them out with --skip-unreadable")


class Failure(NamedTuple):
    """Image `number` cannot be read."""

    number: int
    error: DataError


def caught(ready: Callable[[int], T], number: int) -> T | Failure:
    """What `ready` gives, its error included."""
    try:
        return ready(number)
    except DataError as error:
        return Failure(number, error)


def readable(
    found: Iterator[T | Failure], size: int, unreadable: Unreadable | None, source: Source
) -> Iterator[list[T]]:
    """What is `found`, `size` at a time, but the failures: errors at once, or `unreadable` ones of `source`.

    Nothing comes any more where only the other failures are still to be named, by the error at the end.
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
