"""Writes the tables of reference/cntk-python.md from the package: what of CNTK's Python API is there, what is refused.

    python docs/cntk_names.py

A table stands between `<!-- names: ops -->` (a module of `cntk`, or `refused`) and `<!-- end of names -->`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import convolve.cntk as C
from convolve.cntk import lent, refused

PAGE = Path(__file__).parent / "reference" / "cntk-python.md"
OURS = {"as_function", "as_shape", "as_variable", "block", "operands_of", "primitive", "Node"}  # not of CNTK's
CLASSES = [
    C.Function, C.Variable, C.Parameter, C.Value, C.MinibatchData, C.Trainer, C.learners.Learner, C.io.MinibatchSource,
    C.logging.ProgressPrinter, C.logging.TensorBoardProgressWriter,
]  # fmt: skip
PLACE = re.compile(r"(<!-- names: ([\w.]+) -->\n).*?(<!-- end of names -->)", re.DOTALL)


def rewritten(text: str) -> str:
    """The page with every table made anew."""

    def table(place: re.Match[str]) -> str:
        opening, which, end = place.groups()
        lists = {"refused": refusals, "members": members}
        rows = lists[which]() if which in lists else names(importlib.import_module(f"convolve.cntk.{which}"))
        return "\n".join((opening, *rows, "", end))

    return PLACE.sub(table, text)


def names(module: Any) -> Iterator[str]:
    """A line for each function and class, with its keywords, and one for all constants."""
    constants = []
    borrowed = lent.NAMES.get(module.__name__.removeprefix("convolve.cntk").lstrip("."), "").split()
    for name, what in sorted(vars(module).items(), key=lambda item: item[0].lower()):
        if (
            name.startswith("_")
            or inspect.ismodule(what)
            or name in borrowed
            or name in ("annotations", "TYPE_CHECKING")
        ):
            continue
        if inspect.isclass(what) or inspect.isfunction(what):
            if _is_shown(name, what, module):
                yield f"- `{name}{_keywords(what)}`"
        elif name.isupper() or isinstance(what, str | int):
            constants.append(f"`{name}`")
    if constants:
        yield f"- {', '.join(constants)}"


def _is_shown(name: str, what: Any, module: Any) -> bool:
    """What a module has of its own, or hands on from the modules below it."""
    if name in OURS:
        return False
    home, own = what.__module__, module.__name__
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return name in listed and home.startswith("convolve.cntk")
    return home == own or (home.startswith(f"{own}.") and not refused.is_stand_in(what))


def _keywords(what: Any) -> str:
    if inspect.isclass(what) and issubclass(what, Enum):
        return ""
    parameters = inspect.signature(what).parameters.values()
    shown = [f"*{each.name}" if each.kind is each.VAR_POSITIONAL else each.name for each in parameters
             if each.kind is not each.VAR_KEYWORD and not each.name.startswith("_")]  # fmt: skip
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        shown.append("...")
    return f"({', '.join(shown)})"


def members() -> Iterator[str]:
    for kind in CLASSES:
        found = (name for name in dir(kind) if not name.startswith("_"))
        yield f"- `{kind.__name__}`: {', '.join(f'`{name}`' for name in found)}"


def refusals() -> Iterator[str]:
    yield "| name | why, and the way out |"
    yield "| --- | --- |"
    for way_out, those in refused.by_way_out().items():
        yield f"| {', '.join(f'`{name}`' for name in those)} | {way_out} |"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
