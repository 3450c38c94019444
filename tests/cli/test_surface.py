"""The command line is a promise: scripts rely on its words.

Golden: golden/cli_surface.json, which `pytest tests/cli/test_surface.py --accept` renews with docs/reference.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from command_line import Convolve
from convolve.cli import NAMES, app
from convolve.recipe import from_mapping
from convolve.recipes import RECIPES

GOLDEN = Path(__file__).parents[1] / "golden" / "cli_surface.json"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.py"
HEAVY = {"torch", "numpy", "cv2", "matplotlib", "rich", "yaml", "safetensors", "http", "ssl", "asyncio"}


def test_commands_arguments_and_flags_are_those_that_were_promised(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--accept"):
        GOLDEN.write_text(json.dumps(_surface(), indent=2) + "\n", encoding="utf-8")
    assert _surface() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_reference_is_of_today(request: pytest.FixtureRequest) -> None:
    made = runpy.run_path(str(REFERENCE))
    for page, lines in made["PAGES"].items():
        text = "\n".join(lines()).rstrip() + "\n"
        if request.config.getoption("--accept"):
            page.write_text(text, encoding="utf-8")
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: python docs/reference.py makes it anew"


@pytest.mark.parametrize("name", list(RECIPES.rows))
def test_the_files_of_the_reference_are_the_recipes(name: str) -> None:
    recipe = RECIPES[name]()
    lines = runpy.run_path(str(REFERENCE))["as_file"](recipe)
    assert from_mapping(yaml.safe_load("\n".join(lines))) == recipe


def _surface() -> dict[str, dict[str, str]]:
    group: Any = typer.main.get_command(app)
    return {name: {p.opts[0]: _kind(p) for p in part.params} for name, part in {"": group, **group.commands}.items()}


def _kind(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        kind = "argument" if parameter.nargs == 1 else "arguments"
    elif parameter.is_flag:
        kind = "flag"
    else:
        kind = "repeatable option" if parameter.multiple else "option"
    return f"{kind}, required" if parameter.required else kind


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_has_an_example_that_the_command_line_accepts(name: str, convolve: Convolve) -> None:
    outcome = convolve(*name.split(), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    example = outcome.out.partition("Example: ")[2].partition("\n\n")[0].split()
    assert example[0] == "convolve"
    command: Any = typer.main.get_command(app)
    context = command.commands[example[1]].make_context(example[1], example[2:])  # refuses what it does not know
    assert context.params
    assert not name or example[1] == name


def test_help_of_the_whole_lists_every_command(convolve: Convolve) -> None:
    outcome = convolve("--help")
    assert all(f"\n  {name} " in outcome.out for name in NAMES)


def test_without_a_command_the_help_is_shown(convolve: Convolve) -> None:
    assert convolve() == convolve("--help")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in NAMES)])
def test_help_loads_no_heavy_package(arguments: list[str]) -> None:
    assert not HEAVY & _loaded_by(f"from convolve.cli import main; assert main({arguments!r}) == 0")


def test_importing_convolve_loads_no_heavy_package() -> None:
    assert not HEAVY & _loaded_by("import convolve")


def test_the_check_for_heavy_packages_sees_them() -> None:
    assert {"torch", "numpy"} <= _loaded_by("import convolve; convolve.Model")


def _loaded_by(code: str) -> set[str]:
    """The top-level packages in sys.modules of a fresh interpreter after `code`."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(run.stderr.split())


@pytest.mark.parametrize("arguments", [["--version"], ["show", "mnist", "--json"]])
def test_a_reader_that_has_gone_is_no_failure(arguments: list[str]) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "convolve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout and command.stderr
    command.stdout.close()  # as `| head` does
    assert command.stderr.read() == ""
    assert command.wait() == 0
