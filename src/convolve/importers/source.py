"""Model files: their bytes."""

from __future__ import annotations

from pathlib import Path

from convolve.errors import MissingDataError


def read_bytes(path: str | Path, what: str = "a model file") -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give {what}") from None
