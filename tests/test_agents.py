"""What programs read, llms.txt, SKILL.md and the JSON Schemas, is what the commands and pages say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from convolve.cli import NAMES
from convolve.recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["agents", "schemas"])
def test_files_for_programs_are_of_today(name: str) -> None:
    for path, text in script(name).texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is not of today: run `make agents`"


def test_every_command_has_a_schema_and_nothing_else_has() -> None:
    assert {path.stem for path in (DOCS / "schemas").glob("*.json")} == {*NAMES}


def test_a_program_finds_every_page_command_and_recipe() -> None:
    files = {path.name: text for path, text in script("agents").texts().items()}
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f"]({page})" not in files["llms.txt"]] == []
    assert [name for name in NAMES if f"`convolve {name}`" not in files["SKILL.md"]] == []
    assert [name for name in RECIPES if f"- `{name}`: " not in files["SKILL.md"]] == []
    assert files["SKILL.md"].startswith("---\nname: convolve\ndescription: ")
