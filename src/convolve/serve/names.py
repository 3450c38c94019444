"""The names of one server's models: NAME=MODEL on the command line, NAME in the paths."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from convolve.errors import UsageError

# What the server itself answers under.
RESERVED = {
    "classes", "docs", "explain", "health", "metrics", "openapi.json", "page.css", "page.js", "predict", "ready", "v2",
}  # fmt: skip
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)


def named_models(arguments: Sequence[str]) -> dict[str, Path]:
    """Name -> path of each model, in their order. A model without a name has that of its file or folder."""
    models: dict[str, Path] = {}
    for argument in arguments:
        found = None if Path(argument).exists() else _NAMED.fullmatch(argument)
        name, path = found.groups() if found else (path_name(Path(os.path.realpath(argument)).name), argument)
        if name in RESERVED or not name.strip("."):
            raise UsageError(
                f"{argument}: /{name} is reserved for the server's own page; give the model another name, NAME={path}"
            )
        if name in models:
            raise UsageError(f"{argument}: two models are called {name}; give them different names, NAME=MODEL")
        models[name] = Path(path)
    return models


def path_name(title: str) -> str:
    """`title` in letters that need no escape in an address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-") or "model"
