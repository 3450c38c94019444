"""Where the images of a list are: its paths may be relative, or of another system, or of another machine."""

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import url2pathname

from convolve.errors import MissingDataError
from convolve.formats.archive import Location, parse_location

_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]|[A-Za-z][A-Za-z0-9+.-]+://")
_FILE = re.compile(r"file:(?://[^/]*)?(?=/)")


@dataclass(frozen=True)
class PathRules:
    """Relative paths start at the folder `base`, which ends with its slash; in absolute ones, it replaces
    `moved_from`."""

    base: str = ""
    moved_from: str = ""

    def location(self, text: str) -> Location:
        """The image that a list calls `text`. Both kinds of slash separate folders, unless a file has that name."""
        if text.startswith("file:") and (address := _FILE.match(text)):
            text = url2pathname(text[address.end() :])
        if self.moved_from and text.replace("\\", "/").startswith(self.moved_from):
            text = text[len(self.moved_from) :]
        elif not text or _ABSOLUTE.match(text):  # empty for a line that could not be read
            return parse_location(text)
        found = parse_location(text)
        file = self.base + found.file
        if "\\" in found.file and not os.path.exists(file):  # noqa: PTH110  a million of them
            file = self.base + found.file.replace("\\", "/")
        if not found.file.isascii() and not os.path.exists(file):  # noqa: PTH110  as above
            file = _in_other_form(file, len(self.base))
        return Location(file, found.member)


def _in_other_form(file: str, start: int) -> str:
    """The file whose letters, from `start`, have another Unicode form, as macOS' archives and older disks give names:
    an "é" of two; `file` where there is none."""
    others = (file[:start] + unicodedata.normalize(form, file[start:]) for form in ("NFC", "NFD"))
    return next(filter(os.path.exists, others), file)


def path_rules(base: str, root: Path | None, paths: Iterable[str]) -> PathRules:
    """The rules for the `paths` of a list.

    With `root`, relative ones start there. From the first absolute path that has no file, as few leading folders as
    possible are removed, so that the rest exists below `root`; the same is done to paths with the same beginning.
    Raises `MissingDataError` if nothing fits.
    """
    if root is None:
        return PathRules(_start(base))
    start = _start(root)
    first = next((text for text in paths if _ABSOLUTE.match(text)), "")
    if not first or _is_there(PathRules().location(first).file):
        return PathRules(start)
    parts = parse_location(first).file.replace("\\", "/").split("/")
    for left_out in range(1, len(parts)):
        if _is_there(str(root.joinpath(*parts[left_out:]))):
            return PathRules(start, "/".join(parts[:left_out]) + "/")
    raise MissingDataError(
        f"{first} is not below {root}, neither with all its folders nor without the first ones; give --root the "
        f"folder that holds the images, or the first folder that it shares with the list"
    )


def _start(folder: str | Path) -> str:
    """The part before the paths in `folder`."""
    return "" if str(folder) == "." else os.path.join(folder, "")  # noqa: PTH118


def _is_there(file: str) -> bool:
    """Whether such a file exists, with this or any other ending."""
    folder, name = os.path.split(file)
    try:
        return os.path.exists(file) or any(Path(other).stem == name for other in os.listdir(folder or "."))  # noqa: PTH110, PTH208
    except OSError:
        return False
