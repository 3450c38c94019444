"""Finds the names of CNTK that a program uses and convolve lacks, before the program runs."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from convolve.cntk import refused
from convolve.errors import ConvolveError

_CAUGHT = {"ImportError", "ModuleNotFoundError", "AttributeError", "Exception"}


def unsupported(program: Path) -> list[str]:
    """One line per name: where it is used, and what to do about it. Modules beside the program are read, too."""
    files, lines = [program], []
    for path in files:
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except (SyntaxError, ValueError):
            continue  # Python reports it better when it runs
        found: dict[str, list[int]] = {}
        names = _imported(tree, found)
        if "*" in names:
            names = {name: f"cntk.{name}" for name in _undefined(tree) if refused.known(name)} | names
        for node in _looked_at(tree):
            _look(node, names, found)
        for what, numbers in sorted(found.items(), key=lambda item: min(item[1])):
            places = ", ".join(map(str, sorted(set(numbers))))
            lines.append(f"{path.relative_to(program.parent)}: line {places}: {what}")
        files += [each for each in _beside(tree, path.parent, program.parent) if each not in files]
    return lines


def _looked_at(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, outermost first, except what a program tries and is prepared to miss."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers):
            children = [child for child in children if child not in node.body]
        if isinstance(node, ast.Attribute) and _dotted(node):
            children = []
        stack += children


def _catches(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else _CAUGHT
    return bool(names & _CAUGHT)


def _imported(tree: ast.AST, found: dict[str, list[int]]) -> dict[str, str]:
    """A program's own name -> what it is in CNTK; `found` gets what cannot be imported."""
    names = {}
    for node in _looked_at(tree):
        for own, path, named in _imports_of(node):
            names[own] = path
            _note(named, getattr(node, "lineno", 0), found, is_use=False)
    return names


def _undefined(tree: ast.AST) -> set[str]:
    """The names that a program reads but never defines: they come from `from ... import *`, or from Python."""
    read: set[str] = set()
    given: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else given).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.alias):
            given.add(getattr(node, "asname", None) or node.name)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
    return read - given


def _imports_of(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """(the program's name, what it is in CNTK, the name in the statement) for an import from CNTK."""
    if isinstance(node, ast.Import):
        for each in filter(lambda each: _is_cntks(each.name), node.names):
            yield each.asname or "cntk", each.name if each.asname else "cntk", each.name
    elif isinstance(node, ast.ImportFrom) and not node.level and _is_cntks(node.module or ""):
        for each in node.names:
            path = f"{node.module}.{each.name}".removesuffix(".*")
            yield each.asname or each.name, path, path


def _look(node: ast.AST, names: dict[str, str], found: dict[str, list[int]]) -> None:
    if not isinstance(node, ast.Attribute | ast.Name):
        return
    path = _dotted(node)
    first, _, rest = path.partition(".")
    if first in names and isinstance(node.ctx, ast.Load):
        _note(f"{names[first]}.{rest}".rstrip("."), node.lineno, found, is_use=True)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return f"{inner}.{node.attr}"
    return ""


def _note(path: str, line: int, found: dict[str, list[int]], is_use: bool) -> None:
    """Whether `path` exists; what refuses only when it is called may be imported."""
    what: Any = importlib.import_module("convolve.cntk")
    parts = path.split(".")[1:]
    for at, part in enumerate(parts):
        if not isinstance(what, ModuleType):
            return
        above, what = what, getattr(what, part, None)
        if what is None and not hasattr(above, part):
            what = _module(f"{above.__name__}.{part}")
        if what is None and not hasattr(above, part):
            name = ".".join(["cntk", *parts[: at + 1]])
            found.setdefault(f"{name}: convolve does not have it; write it with what {_BOOK} lists", []).append(line)
            return
        if refused.is_stand_in(what):
            if is_use:
                found.setdefault(refused.way_out(part), []).append(line)
            return


_BOOK = "docs/reference/cntk-python.md"


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, ConvolveError):
        return None


def _beside(tree: ast.AST, own: Path, folder: Path) -> list[Path]:
    """The files in the program's folder that a file in the folder `own` imports, packages included."""
    modules: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [folder.joinpath(*each.name.split(".")) for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = (own, *own.parents)[node.level - 1] if node.level else folder
            module = start.joinpath(*filter(None, (node.module or "").split(".")))
            modules += [module, *(module / each.name for each in node.names)]
    files = [file for module in modules for file in (module.with_name(f"{module.name}.py"), module / "__init__.py")]
    return [file for file in dict.fromkeys(files) if file.is_file() and file.is_relative_to(folder)]


def _is_cntks(module: str) -> bool:
    return module.partition(".")[0] == "cntk"
