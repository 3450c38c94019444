"""The tables of results in README.md and docs agree with docs/results, and those with today's recipes."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from convolve.recipe import from_mapping, with_values
from convolve.recipe_values import differences
from convolve.recipes import RECIPES, load_recipe

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = sorted((DOCS / "results").glob("*.json"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_show_the_results_as_they_are(tables: ModuleType) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in tables.pages()}
    assert {"README.md", "mnist.md"} <= set(pages)
    for name, text in pages.items():
        assert text == tables.rewritten(text), f"{name} differs from docs/results: run `make tables`"
    named = {
        recipe for text in pages.values() for _, _, names, _ in tables.PLACE.findall(text) for recipe in names.split()
    }
    assert named <= set(RECIPES) | {path.stem for path in RESULTS}
    assert {path.stem for path in RESULTS} <= named, "a result that no page shows"


def test_the_check_sees_a_changed_number(tables: ModuleType) -> None:
    for path in tables.pages():
        text = path.read_text(encoding="utf-8")
        opening, form, names, _ = tables.PLACE.search(text).groups()
        digit = re.search(r"\d(?= %)", text[text.index(opening) + len(opening) :])
        assert digit and form and names
        at = text.index(opening) + len(opening) + digit.start()
        changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        assert changed != tables.rewritten(changed) == text


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_of_the_recipe_as_it_is(path: Path) -> None:
    """A recipe that was changed has to be measured anew: convolve reproduce NAME --out docs/results/NAME.json.

    A file of the name RECIPE-WORD is of the recipe with other settings, which its command says.
    """
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    words = shlex.split(summary["command"])
    settings = dict(text.split("=", 1) for option, text in pairwise(words) if option == "--set")
    name = summary["recipe"]
    assert words[:3] == ["convolve", "reproduce", name]
    assert words[-2:] == ["--seeds", str(summary["n"])]
    assert path.stem == name if not settings else path.stem.startswith(f"{name}-")
    assert differences(from_mapping(summary["resolved_recipe"]), with_values(load_recipe(name), settings)) == []
    assert [run["seed"] for run in summary["runs"]] == list(range(summary["n"]))
    assert len({run["data_fingerprint"] for run in summary["runs"]}) == 1
    for name in ("test_error", "train_seconds"):
        values = [run[name] for run in summary["runs"]]
        figures = [summary[name]["mean"], summary[name]["least"], summary[name]["most"]]
        assert figures == pytest.approx([np.mean(values), np.min(values), np.max(values)])
        if len(values) > 1:
            assert summary[name]["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
