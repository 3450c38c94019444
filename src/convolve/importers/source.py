"""Model files: their bytes, and how messages show what stands in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convolve.errors import MissingDataError


def read_bytes(path: str | Path, what: str = "a model file") -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give {what}") from None


def legible(name: str) -> str:
    """A name from a file, fit for one line of a message: nothing that a terminal would obey, and not too long."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:80])


def brief(value: Any) -> str:
    """A value from a file, fit for a message: itself if it is simple, otherwise its type."""
    if isinstance(value, str):
        return repr(legible(value))
    return repr(value) if value is None or isinstance(value, bool | int | float) else type(value).__name__
