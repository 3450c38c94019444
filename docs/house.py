"""Draws the map of the house in CONTRIBUTING.md: every room of src/convolve, in its own words, and what it stands on.

    python docs/house.py

A room is a package or a module of `convolve`; what is said of it is the first paragraph of its docstring. Arrows are
the imports of its files. Of these the map has those that no other leads to: where `run` imports `inputs`, and `inputs`
imports `data`, the arrow from `run` to `data` is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, PAGE = ROOT / "src" / "convolve", ROOT / "CONTRIBUTING.md"
PLACE = re.compile(r"(<!-- map -->\n).*?(<!-- end of map -->)", re.DOTALL)
GROUND = {
    "atomic",
    "cache",
    "errors",
    "locks",
    "names",
    "remote",
}  # open to all rooms, which is why no arrow leads there


def rooms() -> dict[str, list[Path]]:
    """Name -> the files of the room."""
    packages = {path.parent.name: sorted(path.parent.rglob("*.py")) for path in SOURCE.glob("*/__init__.py")}
    return packages | {path.stem: [path] for path in SOURCE.glob("*.py") if not path.stem.startswith("__")}


def imports_of(path: Path) -> set[str]:
    """The rooms that a file imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "convolve":
            names = [f"convolve.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name and name.startswith("convolve.")}
    return found


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that it imports, but for the ground floor."""
    files = rooms()
    found = {name: set().union(*map(imports_of, paths)) & set(files) for name, paths in files.items()}
    return {name: (set() if name in GROUND else those - GROUND - {name}) for name, those in found.items()}


def drawn() -> Iterator[str]:
    """The rows of the map, from the ground up: a room stands under all that import it."""
    to, files = arrows(), rooms()

    @cache
    def below(room: str) -> frozenset[str]:
        """All that a room stands on."""
        return frozenset(to[room]).union(*map(below, to[room]))

    yield "| room | what is in it | stands on |"
    yield "| --- | --- | --- |"
    for name in sorted(to, key=lambda name: (name not in GROUND, len(below(name)), name)):
        direct = sorted(each for each in to[name] if not any(each in below(other) for other in to[name]))
        main = files[name][0]  # __init__.py sorts before any other
        said = (ast.get_docstring(ast.parse(main.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        shown = f"{name}/" if main.name == "__init__.py" else f"{name}.py"
        on = "the ground" if name in GROUND else ", ".join(direct)
        yield f"| `{shown}` | {' '.join(said.split())} | {on} |"


def rewritten(text: str) -> str:
    return PLACE.sub(lambda place: "\n".join((place[1], *drawn(), "", place[2])), text)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
