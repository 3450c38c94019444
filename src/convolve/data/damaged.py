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


def all_damaged(damaged: list[tuple[str, DataError]], count: int) -> DataError:
    """One error for all `damaged` images, of which there are `count` in all: where each is listed, and its error."""
    if len(damaged) == 1:
        return damaged[0][1]
    names = "; ".join(location for location, _ in damaged[1:MOST_NAMED])
    more = f" and {len(damaged) - MOST_NAMED} more" if len(damaged) > MOST_NAMED else ""
    return DataError(f"{len(damaged)} of {count} images are damaged or missing: {damaged[0][1]}; {names}{more}")
