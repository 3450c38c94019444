"""Training images that cannot be decoded: up to a limit, others stand in for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from convolve.errors import DataError

MOST_NAMED = 20  # damaged images in one message


class Damaged:
    """The damaged images that were met so far; at most `limit`. `tell` hears of each once. Threads may share one."""

    def __init__(self, limit: int, tell: Callable[[str], None]) -> None:
        self.limit = limit
        self._tell = tell
        self._found: dict[int, str] = {}
        self._lock = threading.Lock()

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
            f"{'; '.join(errors[-MOST_NAMED:])}{more}"
        )


class Unreadable:
    """Images that cannot be read where none can stand in for them: when all of them are known, an error names them.

    Up to `limit` of them are left out instead, and `tell` hears of that once.
    """

    def __init__(self, limit: float = 0, tell: Callable[[str], None] = lambda message: None) -> None:
        self.limit = limit
        self.numbers: set[int] = set()
        self._tell, self._is_told = tell, False
        self._named: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def note(self, number: int, location: str, error: str) -> None:
        """Image `number`, which lies at `location`, cannot be read; `error` says so in a sentence that names it."""
        if number not in self.numbers and len(self._named) < MOST_NAMED:
            self._named.append((location, error))
        self.numbers.add(number)

    def require(self, count: int) -> None:
        """Raise `DataError` where of `count` images more cannot be read than may be left out."""
        if len(self) > self.limit or len(self) == count:
            raise self.error(count)
        if self.numbers and not self._is_told:
            self._is_told = True
            self._tell(f"{self.error(count)}; left out of the evaluation, which is of the other {count - len(self):,}")

    def error(self, count: int) -> DataError:
        """Of `count` images: the first one's error, and where others lie."""
        (_, first), *others = self._named
        if len(self) == 1:
            return DataError(first)
        names = "; ".join(location for location, _ in others)
        more = f" and {len(self) - len(self._named):,} more" if len(self) > len(self._named) else ""
        return DataError(f"{len(self):,} of {count:,} images are damaged or missing: {first}; {names}{more}")
