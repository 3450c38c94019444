"""Tables of named things that other packages may extend by entry points: networks, recipes, loaders of models."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from convolve.errors import ConvolveError

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """Rows by name: our own and those that a program adds, then those that installed packages offer in the entry-point
    `group`.

    Packages are searched when a name is unknown or all names are needed; one is imported when its row is used. Raises
    ConvolveError if that fails. `families` make rows for names with their prefix: "timm:x".
    """

    def __init__(
        self, group: str, rows: Mapping[str, T], families: Mapping[str, Callable[[str], T]] | None = None
    ) -> None:
        self.group, self.rows, self.families = group, dict(rows), families or {}

    def __getitem__(self, name: str) -> T:
        if name in self.rows:
            return self.rows[name]
        family, _, member = name.partition(":")
        if family in self.families and member:
            return self.families[family](member)
        entry = self._offered()[name]
        try:
            row: T = entry.load()
        except Exception as error:  # any exception of the package's own code
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            raise ConvolveError(
                f"{name!r} in {self.group} comes from the package {package}, which cannot be loaded "
                f"({type(error).__name__}: {' '.join(str(error).split())}); update the package or uninstall it"
            ) from error
        return row

    def __setitem__(self, name: str, row: T) -> None:
        self.rows[name] = row

    def __delitem__(self, name: str) -> None:
        del self.rows[name]

    def __contains__(self, name: object) -> bool:
        family, _, member = str(name).partition(":")
        return name in self.rows or bool(family in self.families and member) or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter({**self.rows, **self._offered()})

    def __len__(self) -> int:
        return len({**self.rows, **self._offered()})

    def _offered(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}
