"""Writes reference/commands.md and reference/recipes.md from the command line and the recipes themselves.

    python docs/reference.py

`python -m pytest tests/cli/test_surface.py --accept` does it, too; without `--accept` a page that is old is a failure.
"""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from convolve.cli import app
from convolve.cli.help import help_record
from convolve.recipe import Recipe, to_mapping
from convolve.recipe_values import steps_text
from convolve.recipes import RECIPES
from convolve.transforms.table import TRANSFORMS
from convolve.transforms.transform import Transform

FOLDER = Path(__file__).parent / "reference"
WRITTEN = "<!-- written by docs/reference.py -->"


def commands() -> Iterator[str]:
    """The lines of a page with each command: what it does, an example, its arguments and options."""
    group: Any = typer.main.get_command(app)
    yield from ("# Commands", "", WRITTEN, "")
    yield "Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 bad data, 4 a"
    yield "feature of a model or configuration that convolve does not have, 75 stopped by a scheduler, 130 interrupted."
    for name, command in group.commands.items():
        yield from ("", f"## {name}", "")
        yield from _told(inspect.cleandoc(command.help))
        context = command.make_context(name, [], resilient_parsing=True)
        records = [(each, help_record(each, context)) for each in command.params]
        for title, kind in (("argument", "argument"), ("option", "option")):
            rows = [record for each, record in records if each.param_type_name == kind and record]
            if rows:
                yield from ("", f"| {title} | |", "| --- | --- |")
                yield from (f"| {_code(words)} | {_cell(_plain(text))} |" for words, text in rows)


def _told(text: str) -> Iterator[str]:
    """A docstring; what follows `Example: ` is a command."""
    for number, paragraph in enumerate(text.split("\n\n")):
        start, example, rest = " ".join(paragraph.split()).partition("Example: ")
        yield from ([""] if number else [])
        yield f"Example: `{rest}`" if example and not start else _plain(start + example + rest)


def recipes() -> Iterator[str]:
    """The lines of a page with each recipe as a file, each field with its default and comment, each transform."""
    yield from ("# Recipes", "", WRITTEN, "")
    yield "A recipe is a value. Here are all of them, then every field, with what it is unless a recipe says otherwise."
    yield "Any field is set with `--set PART.FIELD=VALUE`; for more see [write a recipe](../how-to/write-a-recipe.md)."
    for name, make in RECIPES.rows.items():
        yield from ("", f"## {name}", "", _plain(inspect.cleandoc(make.__doc__ or "")), "", "```yaml")
        yield from (*as_file(make()), "```")
    yield from ("", "## Fields", "")
    yield from _rows(Recipe, "")
    for part, kind in _parts():
        yield from ("", f"### {part}", "", _plain(inspect.cleandoc(kind.__doc__ or "")), "")
        yield from _rows(kind, f"{part}.")
    yield from ("", "## Transforms", "", "In `data.train_transforms`, each by its `kind`.")
    for name, kind in TRANSFORMS.items():
        yield from ("", f"### {name}", "", _plain(inspect.cleandoc(kind.__doc__ or "")))
        if fields(kind):
            yield ""
            yield from _rows(kind, "")


def as_file(recipe: Recipe) -> list[str]:
    """The lines of a YAML file that says what `recipe` has other than the defaults; JSON is YAML."""
    lines = [f"name: {json.dumps(recipe.name)}"]
    for part in fields(recipe)[1:]:
        value = getattr(recipe, part.name)
        if not is_dataclass(value) or isinstance(value, type):
            lines += [f"{part.name}: {json.dumps(value)}"] if value is not None else []
            continue
        base = type(value)()
        said = {each.name: _written(getattr(value, each.name)) for each in fields(value)
                if getattr(value, each.name) != getattr(base, each.name)}  # fmt: skip
        if said or getattr(Recipe("x"), part.name) is None:
            lines.append(f"{part.name}:" if said else f"{part.name}: {{}}")
            lines += [f"  {key}: {json.dumps(each)}" for key, each in said.items()]
    return lines


def _parts() -> Iterator[tuple[str, type]]:
    """(name, class) of each part of a recipe, of those too that most recipes do not have."""
    for name, hint in get_type_hints(Recipe).items():
        for kind in get_args(hint) or (hint,):
            if is_dataclass(kind) and isinstance(kind, type):
                yield name, kind


def _rows(kind: type, prefix: str) -> Iterator[str]:
    """A table of the fields of a dataclass that are not parts themselves."""
    parts = {name for name, _ in _parts()} if kind is Recipe else set()
    hints = get_type_hints(kind)
    has_comments = any("comment" in each.metadata for each in fields(kind))
    yield "| field | unless set | |" if has_comments else "| field | unless set |"
    yield "| --- | --- | --- |" if has_comments else "| --- | --- |"
    for each in fields(kind):
        if each.name not in parts:
            cells = [f"`{prefix}{each.name}`", _default(each), _comment(each, hints[each.name])]
            yield f"| {' | '.join(cells if has_comments else cells[:2])} |"


def _default(each: Field[Any]) -> str:
    if each.default is MISSING and each.default_factory is MISSING:
        return "must be set"
    return f"`{json.dumps(_written(each.default if each.default_factory is MISSING else each.default_factory()))}`"


def _written(value: Any) -> Any:
    """As a file has it: steps in one word, transforms without what they are by default."""
    if isinstance(value, tuple) and value and all(isinstance(one, float) for one in value):
        return steps_text(value)
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Transform):
        told = {each.name: getattr(value, each.name) for each in fields(value)}
        defaults = {each.name: each.default for each in fields(value)}
        said = {name: _written(each) for name, each in told.items() if each != defaults[name]}
        return {"kind": next(name for name, kind in TRANSFORMS.items() if kind is type(value)), **said}
    return to_mapping(value)


def _comment(each: Field[Any], hint: Any) -> str:
    """What `convolve show` prints beside it, and the words that it may be."""
    words = " or ".join(f"`{word}`" for word in _words(hint))
    return "; ".join(filter(None, (words, _cell(_plain(each.metadata.get("comment", ""))))))


def _words(hint: Any) -> Iterable[str]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if isinstance(hint, UnionType):
        return [word for one in get_args(hint) for word in _words(one)]
    return ()


def _plain(text: str) -> str:
    """Without what Markdown would take for HTML or emphasis; pages become links."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\[*_])", r"\\\1", part.replace("<", "&lt;")) for part in parts[::2]]
    return re.sub(r"docs/([a-z0-9/-]+)\.md", r"[\1](../\1.md)", "`".join(parts))


def _code(words: str) -> str:
    """Code in a cell, where Markdown's own keeps the backslash before a bar."""
    return f"<code>{html.escape(words).replace('|', '&#124;')}</code>" if "|" in words else f"`{words}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {FOLDER / "commands.md": commands, FOLDER / "recipes.md": recipes}

if __name__ == "__main__":
    for page, lines in PAGES.items():
        page.write_text("\n".join(lines()).rstrip() + "\n", encoding="utf-8")
