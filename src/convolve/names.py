"""File names that every operating system accepts, for files that are named after something (a class, an address)."""

import os
import re
import unicodedata
from pathlib import Path

# Source: "Naming Files, Paths, and Namespaces" in Windows' documentation, the strictest of the systems.
_REFUSED = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|[. ]$')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def portable(name: str) -> str:
    """`name`, with `_` in place of what some system forbids: a reserved character, a dot or space at its end; and
    before a name that Windows takes for a device, whatever its ending: `nul.png`."""
    name = _REFUSED.sub("_", name) or "_"
    return f"_{name}" if _DEVICE.match(name) else name


def folded(name: str) -> str:
    """The same for all names that are one where systems look at neither capitals (Windows, macOS) nor the form of a
    letter: macOS takes "é" and an "e" with an accent of its own for one."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold()


def own_slashes(path: str | Path) -> str:
    """`path`, which may have been written on Windows: its back slashes separate folders, unless something has that very
    name."""
    return str(path) if os.path.lexists(path) else str(path).replace("\\", os.sep)
