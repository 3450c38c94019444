"""Writes llms.txt and SKILL.md, for programs that read: from the pages, the commands' own help, the recipes.

    python docs/agents.py

docs/llms.txt names every page (https://llmstxt.org), skills/convolve/SKILL.md says how to work with the commands.
tests/test_agents.py fails where they are not what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from convolve import errors
from convolve.cli import GROUPS, app
from convolve.recipes import RECIPES

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"\[([^]]+)\]\(([\w/-]+\.md)\)")
SHARED = ("Tables and large images", "A model from elsewhere")  # sections of the help that several commands have
CODES = {
    0: "done",
    75: "stopped by a scheduler; the same command resumes",
    130: "interrupted; the same command resumes",
}


def summary() -> str:
    """What it is: the first paragraph of the README, in one line."""
    return " ".join((ROOT / "README.md").read_text("utf-8").split("\n\n")[1].split())


def pages() -> Iterator[tuple[str, str, str]]:
    """(address, title, what it is for) of each page, from the tables of index.md."""
    yield "index.md", "All pages", ""
    yield "quick-start.md", "Quick start", "from nothing to a classifier in five minutes"
    for cells in re.findall(r"^\| (.+?) \| (.*?) \|$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE):
        for cell, other in zip(cells, reversed(cells), strict=True):
            yield from ((address, title, other.strip()) for title, address in LINK.findall(cell))


def commands() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """(title, commands by name) of each group of `convolve --help`."""
    group: Any = typer.main.get_command(app)
    for title, functions in GROUPS.items():
        names = [function.__name__.replace("_", "-") for function in functions]
        yield title, [(name, group.commands[name]) for name in names]


def example(command: Any) -> str:
    return " ".join(str(command.help).partition("Example: ")[2].split())


def options(command: Any, section: str | None = None) -> Iterator[str]:
    """Each option with what it takes: those of one of the SHARED sections, or all others."""
    for parameter in command.params:
        title = getattr(parameter, "rich_help_panel", None)
        is_wanted = title == section if section else title not in SHARED
        if parameter.param_type_name == "option" and is_wanted:
            takes = "" if parameter.is_flag else f" {parameter.metavar or parameter.type.name.upper()}"
            yield f"`{parameter.opts[0]}{takes}`"


def first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def recipes() -> Iterator[tuple[str, str]]:
    for name in RECIPES:
        yield name, first_line(RECIPES[name].__doc__)


def exit_codes() -> dict[int, str]:
    """From the tree of errors.py."""
    rows = re.findall(r"(\w+Error)\s+(\d+)   (.+)", errors.__doc__ or "")
    found = {1: "failed; the message on stderr says the way out"}
    for name, code, said in rows:
        if code != "1":
            found.setdefault(int(code), f"{said} ({name})")
    return dict(sorted((found | CODES).items()))


def llms() -> Iterator[str]:
    yield from ("# convolve", "", f"> {summary()}", "")
    yield from (
        "Results go to stdout, progress to stderr; `--json` prints one JSON object, which a schema describes.",
        "",
    )
    yield from ("## Pages", "")
    yield from (f"- [{title}]({address})" + (f": {said}" if said else "") for address, title, said in pages())
    yield from ("", "## Commands", "")
    for _, rows in commands():
        yield from (f"- `convolve {name}`: {first_line(command.help)} `{example(command)}`" for name, command in rows)
    yield from ("", "## JSON Schemas of --json", "")
    yield from (f"- [convolve {path.stem}](schemas/{path.name})" for path in sorted((DOCS / "schemas").glob("*.json")))


def readme_fence(title: str) -> str:
    """The first fence below a title of the README."""
    text = (ROOT / "README.md").read_text("utf-8").partition(f"## {title}\n")[2]
    return text.split("```")[1].strip("\n")


def skill() -> Iterator[str]:
    yield from ("---", "name: convolve", "description: >-")
    yield "  Train, check, explain, export and serve an image classifier from a folder of photographs, or run what CNTK"
    yield "  and Caffe left behind, with the command-line tool `convolve`. Use it where images are to be sorted into"
    yield "  classes, where such a model is to be tested or shipped, and where a file of CNTK, Caffe or ONNX is opened."
    yield from ("---", "", "# convolve", "", summary(), "", "## A classifier of photographs", "")
    yield from ("```text", readme_fence("Your own photographs"), "```", "", "## What CNTK and Caffe left", "")
    yield from ("```text", readme_fence("Your CNTK program runs"), "```", "", "## Rules", "")
    yield from (
        "- Answers go to stdout, progress and errors to stderr. `--json` prints one JSON object, whose JSON Schema is",
        "  docs/schemas/COMMAND.json.",
        "- An error is one line that begins with `convolve: ` and names the way out. Nothing is left half-written.",
        "- A training that was stopped goes on when the same command is given again; a finished run is refused unless",
        "  `--restart`. Everything about a run is in its folder: `result.json`, `report.html`, `model/`.",
        "- Any field of a recipe is set by `--set PATH=VALUE`; `convolve show RECIPE` prints them all with comments.",
        "- `MODEL` is a run, a model folder, a CNTK, Caffe, ONNX or PyTorch file, or `timm:NAME`.",
        "- Models are safetensors and JSON: opening one runs no code. `convolve run PROGRAM.py` does run a program.",
        "",
    )
    yield from (
        "| exit code | |",
        "| --- | --- |",
        *(f"| {code} | {said} |" for code, said in exit_codes().items()),
        "",
    )
    shared: dict[str, str] = {}
    for title, rows in commands():
        yield from (f"## {title}", "")
        for name, command in rows:
            found = {section: ", ".join(options(command, section)) for section in SHARED}
            has = [section for section in SHARED if found[section]]
            shared |= {section: max(found[section], shared.get(section, ""), key=len) for section in has}
            beside = "".join(f"; *{section}*" for section in has)
            yield f"- **`convolve {name}`**: {first_line(command.help)} Example: `{example(command)}`"
            yield f"  Options: {', '.join(options(command))}{beside}."
        yield ""
    yield from ("Options that several commands have:", "")
    yield from (f"- *{section}*: {found}" for section, found in shared.items())
    yield ""
    yield from ("## Recipes", "", *(f"- `{name}`: {said}" for name, said in recipes()))


def texts() -> dict[Path, str]:
    """File -> what belongs into it."""
    return {
        DOCS / "llms.txt": "\n".join([*llms(), ""]),
        ROOT / "skills" / "convolve" / "SKILL.md": "\n".join([*skill(), ""]),
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
