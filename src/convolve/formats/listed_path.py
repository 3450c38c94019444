"""Where the images of a list lie: its paths may be relative, of another system, or of another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from convolve.errors import MissingDataError
from convolve.formats.archive import Location, parse_location

_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]|[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class PathRules:
    """Relative paths start at the folder `base`; what absolute ones began with, `moved_from`, is `moved_to` now."""

    base: str = ""
    moved_from: str = ""
    moved_to: str = ""

    def location(self, text: str) -> Location:
        """The image that a list calls `text`. Both slashes separate folders, where no file is so called."""
        if text.startswith("file:"):
            text = url2pathname(urlsplit(text).path)
        if self.moved_from and text.replace("\\", "/").startswith(self.moved_from):
            return self._below(self.moved_to, text[len(self.moved_from) :])
        return parse_location(text) if _ABSOLUTE.match(text) else self._below(self.base, text)

    def _below(self, folder: str, text: str) -> Location:
        if not text:  # of a line that could not be read
            return Location("")
        found = parse_location(text)
        file = os.path.join(folder, found.file)  # noqa: PTH118  a million of them
        if "\\" in found.file and not os.path.exists(file):  # noqa: PTH110
            file = os.path.join(folder, found.file.replace("\\", "/"))  # noqa: PTH118
        return replace(found, file=file)


def path_rules(base: str, root: Path | None, paths: Iterable[str]) -> PathRules:
    """Those for the `paths` of a list. With `root`, relative ones start there.

    The first absolute path that has no file tells how much of it is to be left out, so that it lies below `root`: as
    little as possible; of the others, those that begin alike lie there too. Raises `MissingDataError` if none does.
    """
    if root is None:
        return PathRules(base)
    first = next((text for text in paths if _ABSOLUTE.match(text)), "")
    if not first or _is_there(PathRules().location(first).file):
        return PathRules(str(root))
    parts = parse_location(first).file.replace("\\", "/").split("/")
    for left_out in range(1, len(parts)):
        if _is_there(str(root.joinpath(*parts[left_out:]))):
            return PathRules(str(root), "/".join(parts[:left_out]) + "/", str(root))
    raise MissingDataError(
        f"{first} does not lie below {root}, with all its folders or without the first of them; give with --root the "
        "folder that holds the images, or the first folder that it shares with the list"
    )


def _is_there(file: str) -> bool:
    """Whether there is such a file, or one with any ending."""
    path = Path(file)
    return path.exists() or (path.parent.is_dir() and any(other.stem == path.name for other in path.parent.iterdir()))
