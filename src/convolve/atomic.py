"""Files appear under their final name whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from convolve.errors import ConvolveError

_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # what `replacing` makes


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed.

    A full or read-only disk raises `ConvolveError` that names `path`; what stood there before stays.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        _remove(temporary)


def half_written(folder: Path) -> list[Path]:
    """What a killed process left in `folder`: temporary files that never took their final names."""
    return [path for path in folder.glob(".*.tmp") if _TEMPORARY.fullmatch(path.name)]


def sweep(folder: Path) -> None:
    """Remove what a killed process left in `folder`."""
    for path in half_written(folder):
        _remove(path)


def cannot_write(path: Path, error: OSError) -> ConvolveError:
    reason = error.strerror or str(error)
    return ConvolveError(f"cannot write {path}: {reason}; free space there or choose another place")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    with suppress(OSError):  # the folder is not writable: nothing was left there either
        path.unlink(missing_ok=True)
